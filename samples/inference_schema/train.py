# /// script
# dependencies = ["numpy"]
# ///
"""Train a model that says how dear a flat is by its size, rooms and floor: models/flats.npz."""

from pathlib import Path

import numpy as np

COLUMNS = ("size", "rooms", "floor")

random = np.random.default_rng(3)
flats = np.column_stack([random.uniform(25, 140, 80), random.integers(1, 6, 80), random.integers(0, 9, 80)])
rents = 180 + flats @ [9.5, 60, 8] + random.normal(0, 40, 80)
weights, *_ = np.linalg.lstsq(np.column_stack([flats, np.ones(len(flats))]), rents, rcond=None)

path = Path(__file__).parent / "models" / "flats.npz"
path.parent.mkdir(exist_ok=True)
np.savez(path, columns=np.array(COLUMNS), weights=weights[:-1], base=weights[-1])
