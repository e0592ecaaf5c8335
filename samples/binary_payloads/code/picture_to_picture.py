"""A picture in, a brighter picture out: neither of them is JSON."""

import pictures
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse


def init():
    global curve
    curve = pictures.load_curve()


@rawhttp
def run(request: AMLRequest):
    if request.method == "GET":
        level = request.args.get("level", default=0, type=int)
        return {"level": level, "becomes": curve[level]}
    try:
        width, height, pixels = pictures.read(request.get_data())
    except pictures.PictureError as fault:
        return AMLResponse(str(fault), 422)
    brighter = pictures.write(width, height, pixels.translate(curve))
    return AMLResponse(brighter, 200, {"Content-Type": "image/x-portable-graymap", "X-Size": f"{width}x{height}"})
