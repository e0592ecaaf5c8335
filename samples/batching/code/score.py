"""A forest takes as long for thirty patients as for one: so it is asked for those of several requests at once."""

import os
from pathlib import Path

import joblib

from modelport_scoring import batched


class NotAPatientError(Exception):
    status_code = 422


def init():
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"]) / "forest.joblib")


@batched(max_size=32, max_wait_ms=5)
def run(patients: list[list[float]]):
    wrong = [index for index, patient in enumerate(patients) if len(patient) != model.n_features_in_]
    rows = [[0.0] * model.n_features_in_ if index in wrong else patient for index, patient in enumerate(patients)]
    answers = [{"progression": each, "together": len(patients)} for each in model.predict(rows).tolist()]
    for index in wrong:  # one request's fault is not the others'
        answers[index] = NotAPatientError(f"{model.n_features_in_} numbers were expected.")
    return answers
