"""How far a shelf bends: its annotations are all that a caller, the OpenAPI page and the converter need to know."""

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Wood(Enum):
    OAK = "oak"
    PINE = "pine"


@dataclass
class Shelf:
    length: float
    thickness: float
    wood: Wood = Wood.PINE


class UnknownLoadError(Exception):
    status_code = 422


def init():
    global stiffness
    stiffness = {Wood.OAK: 12.0, Wood.PINE: 8.0}


def run(shelves: list[Shelf], load: float = 1.0):
    if load < 0:
        raise UnknownLoadError(f"A load of {load:g} would lift the shelf.")
    lengths = np.array([each.length for each in shelves])
    strengths = np.array([stiffness[each.wood] * each.thickness**3 for each in shelves])
    return {"bends": load * lengths**3 / strengths, "woods": {each.wood for each in shelves}}
