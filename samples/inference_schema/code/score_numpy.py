"""An array of flats."""

import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema
from rents import Rents


def init():
    global rents
    rents = Rents()


@input_schema("flats", NumpyParameterType(np.array([[70.0, 3.0, 2.0]])))
@output_schema(StandardPythonParameterType({"rents": [1050.0]}))
def run(flats):
    return {"rents": rents.of(flats)}
