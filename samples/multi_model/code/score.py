"""Every model of the folder is loaded; the request says which one answers."""

import json
import os
from pathlib import Path

from azureml_inference_server_http.api.aml_response import AMLResponse


def init():
    global models
    files = Path(os.environ["AZUREML_MODEL_DIR"]).rglob("*.json")
    models = {file.stem: json.loads(file.read_text()) for file in files}
    print("models:", *sorted(models))


def run(raw_data):
    asked = json.loads(raw_data)
    model = models.get(asked["model"])
    if model is None:
        known = ", ".join(sorted(models))
        return AMLResponse({"message": f"There is no model {asked['model']!r}: {known}."}, 404, json_str=True)
    return {"model": asked["model"], "predictions": [model["intercept"] + model["slope"] * x for x in asked["data"]]}
