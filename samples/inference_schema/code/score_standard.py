"""One argument for each number of a flat; the currency may be left out."""

from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema
from rents import Rents


def init():
    global rents
    rents = Rents()


@input_schema("size", StandardPythonParameterType(70.0))
@input_schema("rooms", StandardPythonParameterType(3))
@input_schema("floor", StandardPythonParameterType(2))
@input_schema("currency", StandardPythonParameterType("EUR"), optional=True)
@output_schema(StandardPythonParameterType({"rent": 1050.0, "currency": "EUR"}))
def run(size, rooms, floor, currency="EUR"):
    return {"rent": rents.of([[size, rooms, floor]])[0], "currency": currency}
