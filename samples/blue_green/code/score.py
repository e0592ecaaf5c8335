"""Azure's contract: init() once, run() per request. Blue and green differ by their model only."""

import json
import os
from pathlib import Path

import joblib


def init():
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"]) / "model.joblib")


def run(raw_data):
    rows = json.loads(raw_data)["data"]
    return {"cultivar": model.predict(rows).tolist()}
