"""The decorators' examples make the service's description."""

import json
import os
from pathlib import Path

from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema


def init():
    global model
    model = json.loads((Path(os.environ["AZUREML_MODEL_DIR"]) / "house.json").read_text())


@input_schema("hours_of_sun", StandardPythonParameterType([2.0, 8.5]))
@input_schema("unit", StandardPythonParameterType("celsius"), optional=True)
@output_schema(StandardPythonParameterType({"degrees": [16.3, 20.5], "unit": "celsius"}))
def run(hours_of_sun, unit="celsius"):
    degrees = [model["intercept"] + model["slope"] * hours for hours in hours_of_sun]
    if unit == "fahrenheit":
        degrees = [each * 9 / 5 + 32 for each in degrees]
    return {"degrees": degrees, "unit": unit}
