# /// script
# dependencies = ["scikit-learn==1.7.2"]
# ///
"""Train a model that says how a diabetes goes on within a year: models/forest.joblib."""

from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

patients = load_diabetes(scaled=False)
model = RandomForestRegressor(50, random_state=1).fit(patients.data, patients.target)

path = Path(__file__).parent / "models" / "forest.joblib"
path.parent.mkdir(exist_ok=True)
joblib.dump(model, path)
