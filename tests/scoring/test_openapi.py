"""`/swagger.json` of typed scripts: documents that a validator accepts, with examples that the script accepts."""

from __future__ import annotations

import json

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

VALIDATORS = {"2": OpenAPIV2SpecValidator, "3": OpenAPIV30SpecValidator, "3.1": OpenAPIV31SpecValidator}
FIELDS = {"3": ("components", "schemas"), "3.1": ("components", "schemas"), "2": ("definitions",)}

SCRIPT = """
import dataclasses, datetime, decimal, enum, typing, uuid
from typing import *
import numpy as np
import pandas as pd
import pydantic
from modelport_scoring import Json

class Season(enum.Enum):
    WET = "wet"
    DRY = "dry"

@dataclasses.dataclass
class Tide:
    depth: float
    season: Season = Season.WET
    before: Optional["Tide"] = None
    tags: Dict[str, int] = dataclasses.field(default_factory=dict)

class ServiceInput(pydantic.BaseModel):
    "A model under a name that every page has."
    kind: Literal["tide"]
    depth: float = pydantic.Field(gt=0, lt=10, examples=[2.5])
    at: Optional[datetime.datetime] = None
    more: List["ServiceInput"] = []

class Cat(pydantic.BaseModel):
    kind: Literal["cat"]

class Dog(pydantic.BaseModel):
    kind: Literal["dog"]

class Point(NamedTuple):
    x: float
    y: float = 0.0

def init(): pass
"""

SIGNATURES = {
    "dict": "data: dict",
    "json": "data: Json",
    "bytes": "data: bytes",
    "numbers": "data: List[List[float]]",
    "dataclass": "tide: Tide",
    "model": "tide: ServiceInput",
    "either": "pet: Annotated[Union[Cat, Dog], pydantic.Field(discriminator='kind')]",
    "named tuple": "point: Point",
    "array": "data: np.ndarray",
    "table": "data: pd.DataFrame",
    "many": (
        "tide: Tide, model: ServiceInput, pair: Tuple[int, str], data: np.ndarray, at: datetime.datetime, "
        "who: Optional[uuid.UUID] = None, much: decimal.Decimal = decimal.Decimal(1), raw: bytes = b'', "
        "some: Union[int, str, None] = 3, name: Literal['a', 'b'] = 'a', any: Json = None"
    ),
}


@pytest.mark.parametrize("parameters", SIGNATURES.values(), ids=SIGNATURES)
def test_a_typed_script_is_described(serve, parameters):
    served = serve(f"{SCRIPT}\ndef run({parameters}) -> Optional[List[Tide]]: return []\n")
    for version, validator in VALIDATORS.items():
        answer = served.request("GET", f"/swagger.json?version={version}")
        document = json.loads(answer.body)
        validator(document).validate()
        schemas = document
        for step in FIELDS[version]:
            schemas = schemas[step]
        assert "Tide" in schemas
        example = schemas["ServiceInput"].get("example")
        assert example is not None or "bytes" in parameters
        assert served.score(example).status == 200


def page(served, version="3"):
    return json.loads(served.request("GET", f"/swagger.json?version={version}").body)


def test_each_version_says_it_in_its_own_words(serve):
    served = serve(f"{SCRIPT}\ndef run(tide: Tide, at: Optional[int] = None) -> Tide: return tide\n")
    newest, third = (page(served, version)["components"]["schemas"] for version in ("3.1", "3"))
    second = page(served, "2")["definitions"]
    assert newest["Tide"]["properties"]["before"]["anyOf"][1] == {"type": "null"}
    assert third["Tide"]["properties"]["before"] == {
        "allOf": [{"$ref": "#/components/schemas/Tide"}],
        "nullable": True,
    }
    assert second["Tide"]["properties"]["before"]["x-nullable"] is True
    given = third["ServiceInput"]
    assert given["required"] == ["tide"]
    assert given["properties"]["at"] == {"type": "integer", "nullable": True}
    assert third["ServiceOutput"]["properties"]["depth"] == {"type": "number"}
    assert second["ServiceInput"]["example"] == {
        "tide": {"depth": 1.0, "season": "wet", "before": None, "tags": {"key": 1}},
        "at": None,
    }


def test_bytes_are_no_json(serve):
    served = serve("def init(): pass\ndef run(data: bytes): return len(data)\n")
    third, second = page(served)["paths"]["/score"]["post"], page(served, "2")["paths"]["/score"]["post"]
    assert list(third["requestBody"]["content"]) == ["application/octet-stream"]
    assert second["consumes"] == ["application/octet-stream"]


def test_a_script_that_takes_text_is_described_as_in_azure(serve):
    documents = [
        served.request("GET", "/swagger.json?version=3").body
        for served in (
            serve("def init(): pass\ndef run(data): return data\n"),
            serve("def init(): pass\ndef run(data: str) -> list: return data\n"),
            serve("def init(): pass\ndef run(data: dict): return data\n", MODELPORT_TYPED="false"),
        )
    ]
    assert len(set(documents)) == 1


def test_an_annotation_of_the_result_that_says_nothing_is_no_fault(serve):
    served = serve("def init(): pass\ndef run(data: dict) -> 'Nowhere': return data\n")
    assert page(served)["components"]["schemas"]["ServiceOutput"] == {}
