"""Train a model that says how warm a house gets by the sun: models/house.json. One line, by the standard library."""

import json
from pathlib import Path
from statistics import linear_regression

hours = [0.0, 1.5, 2.0, 4.5, 5.0, 7.5, 9.0, 11.0]
degrees = [15.1, 16.0, 16.2, 17.9, 18.1, 19.8, 20.9, 22.2]
line = linear_regression(hours, degrees)

path = Path(__file__).parent / "models" / "house.json"
path.parent.mkdir(exist_ok=True)
path.write_text(json.dumps({"slope": line.slope, "intercept": line.intercept}))
