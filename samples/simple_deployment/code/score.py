"""Azure's contract: init() once, run() per request."""

import json
import logging
import os
from pathlib import Path

import joblib


def init():
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"]) / "model.joblib")
    logging.getLogger(__name__).info("the model is loaded")


def run(raw_data):
    patients = json.loads(raw_data)["data"]
    return {"progression": model.predict(patients).tolist()}
