"""A table of flats, whose columns may come in any order."""

import pandas as pd
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema
from rents import Rents


def init():
    global rents
    rents = Rents()


@input_schema("flats", PandasParameterType(pd.DataFrame({"size": [70.0], "rooms": [3], "floor": [2]})))
@output_schema(StandardPythonParameterType({"rents": [1050.0]}))
def run(flats):
    return {"rents": rents.of(flats[["size", "rooms", "floor"]])}
