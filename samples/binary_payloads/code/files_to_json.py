"""Any number of files in one request, as a browser's form sends them; what is said of them is JSON."""

import pictures
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp


def init():
    global curve
    curve = pictures.load_curve()


@rawhttp
def run(request: AMLRequest):
    told = []
    for file in request.files.getlist("picture"):
        width, height, pixels = pictures.read(file.stream.read())
        told.append(
            {
                "name": file.filename,
                "size": [width, height],
                "brightness": sum(pixels) / len(pixels),
                "brightened": sum(pixels.translate(curve)) / len(pixels),
            }
        )
    return {"album": request.form.get("album"), "pictures": told}
