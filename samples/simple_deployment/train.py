# /// script
# dependencies = ["scikit-learn==1.7.2"]
# ///
"""Train a model that says how a diabetes goes on within a year: models/model.joblib."""

from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

patients = load_diabetes(scaled=False)
model = Ridge(alpha=0.1).fit(patients.data, patients.target)

path = Path(__file__).parent / "models" / "model.joblib"
path.parent.mkdir(exist_ok=True)
joblib.dump(model, path)
print(f"trained with {len(patients.target)} patients, R² {model.score(patients.data, patients.target):.2f}")
