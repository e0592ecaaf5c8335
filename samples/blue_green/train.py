# /// script
# dependencies = ["scikit-learn==1.7.2"]
# ///
"""Train two models that tell three wines apart by their chemistry: models/blue and models/green."""

from pathlib import Path

import joblib
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

here = Path(__file__).parent
wines = load_wine()
seen, unseen, cultivars, truth = train_test_split(wines.data, wines.target, random_state=1, stratify=wines.target)

models = {
    "blue": make_pipeline(StandardScaler(), LogisticRegression()),
    "green": RandomForestClassifier(n_estimators=20, random_state=1),
}
for name, model in models.items():
    model.fit(seen, cultivars)
    path = here / "models" / name / "model.joblib"
    path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, path)
    print(f"{name}: right about {model.score(unseen, truth):.0%} of the wines that it never saw")
