"""Train two models that have nothing in common but their folder: models/parcels.json and models/icecream.json."""

import json
from pathlib import Path
from statistics import linear_regression

SEEN = {
    # Grams, and what the parcel costs.
    "parcels": ([120, 480, 900, 1500, 2400, 4800, 9500], [2.9, 3.6, 4.4, 5.1, 6.9, 10.8, 18.9]),
    # Degrees, and scoops of ice cream sold in an hour.
    "icecream": ([14, 17, 19, 22, 25, 28, 31], [8, 21, 27, 48, 61, 80, 94]),
}

folder = Path(__file__).parent / "models"
folder.mkdir(exist_ok=True)
for name, (given, wanted) in SEEN.items():
    line = linear_regression(given, wanted)
    (folder / f"{name}.json").write_text(json.dumps({"slope": line.slope, "intercept": line.intercept}))
