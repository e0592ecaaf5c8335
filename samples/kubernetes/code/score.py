"""Minutes that a ferry is late, by the weather."""

import json
import os
from pathlib import Path


def init():
    global delays
    delays = json.loads((Path(os.environ["AZUREML_MODEL_DIR"]) / "delays.json").read_text())


def run(raw_data):
    return [delays[weather] for weather in json.loads(raw_data)["weather"]]
