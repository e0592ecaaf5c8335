"""
The samples run as they are, each in a workspace of its own.

All but four are written for Azure's SDK, and run unchanged by `modelport.as_azure`: on processes, and where
this machine has no such thing, against a stand-in for Azure. What they print is compared with what the models say
when they are asked here, without any server.
"""

import ast
import asyncio
import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder
from modelport.schema import files
from modelport.testing import environments_folder

SAMPLES = Path(__file__).parents[1] / "samples"
FOR_AZURE = {
    *("simple_deployment", "safe_rollout", "inference_schema", "openapi", "binary_payloads", "multi_model"),
    *("own_container", "mlflow_no_code", "kubernetes"),
}
home = runpy.run_path(str(Path(__file__).parent / "cli" / "conftest.py"))["home"]


def told_by(command, environ):
    """What a program printed; it ran to its end without a word of complaint."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def run_here(home, sample, backend="process"):
    """Run a sample that was written for Azure; return its lines, by what stands before the first colon."""
    environ = {**home.environ, "MODELPORT_BACKEND": backend}
    lines = told_by(["-m", "modelport.as_azure", SAMPLES / sample / f"{sample}.py"], environ).splitlines()
    assert lines[-1] == "deleted"
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def run_against_azure(stub, sample):
    """Run a sample with Azure's own addresses, which are the stand-in's, and Azure's own login."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "MODELPORT"))},
        "AZUREML_DEV_URL_MFE": stub.url,
        "AZURE_AUTHORITY_HOST": stub.url,
        "AZURE_TENANT_ID": "adfs",  # the one authority that azure-identity trusts without asking Microsoft's first
        "AZURE_CLIENT_ID": "sample",
        "AZURE_CLIENT_SECRET": "secret",
        "REQUESTS_CA_BUNDLE": str(stub.ca),
        "SUBSCRIPTION_ID": stub.workspace.subscription,
        "RESOURCE_GROUP": stub.workspace.group,
        "WORKSPACE_NAME": stub.workspace.name,
    }
    lines = told_by(["-m", "modelport.as_azure", SAMPLES / sample / f"{sample}.py"], environ).splitlines()
    assert lines[-1] == "deleted"
    assert not [place for place in stub.resources if "onlineEndpoints" in place]
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def sent_to(stub, place):
    """Bodies of the PUTs to a place, in order."""
    return [json.loads(seen.body) for seen in stub.seen if seen.method == "PUT" and seen.path.endswith(place)]


def say_here(sample, code):
    """What code prints, as JSON, in the environment that a sample's conda file asks for, and in its folder."""
    conda = files.read_mapping(SAMPLES / sample / "conda.yml")
    python = PrefixBuilder(environments_folder()).build(Wanted(conda=conda), lambda _: None).python
    done = subprocess.run([python, "-c", code], cwd=SAMPLES / sample, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_blue_green(home):
    told = told_by([SAMPLES / "blue_green" / "blue_green.py"], home.environ)
    assert 'blue says {"cultivar": [0]}\ngreen says {"cultivar": [0]}\n' in told
    counts = {
        what: dict(re.findall(r"'(\w+)': (\d+)", who))
        for what, who in re.findall(r"^(.+): \{(.+)\}$", told, re.MULTILINE)
    }
    assert counts["mirrored"] == {"blue": "200"}
    assert set(counts["green 10%"]) == {"blue", "green"}
    assert counts["green 100%"] == counts["without blue"] == {"green": "200"}


def test_blue_green_trains_with_the_version_that_serves():
    folder = SAMPLES / "blue_green"
    pins = {f'"{line}"' for line in files.read_mapping(folder / "conda.yml")["dependencies"][-1]["pip"]}
    (trains_with,) = re.findall(r"^# dependencies = \[(.+)\]$", (folder / "train.py").read_text(), re.MULTILINE)
    assert pins == set(trains_with.split(", "))


def run_ours(home, sample):
    """As `run_here`, for a sample that was written for Modelport."""
    try:
        lines = told_by([SAMPLES / sample / f"{sample}.py"], home.environ).splitlines()
    finally:
        home.run("down")
    assert lines[-1] == "deleted"
    return dict(line.split(": ", 1) for line in lines[:-1])


def test_typed(home):
    told = run_ours(home, "typed")
    answer = json.loads(told["fits"])
    assert (answer["bends"], sorted(answer["woods"])) == ([2.0, 3.0], ["oak", "pine"])
    assert re.match(r"400 .*Invalid enum value 'steel' - at `\$\.shelves\[0\]\.wood`\. An example ", told["does not"])
    assert re.match(r"422 .*A load of -1 would lift the shelf\.", told["refused"])


def test_streaming(home):
    told = run_ours(home, "streaming")
    script = runpy.run_path(str(SAMPLES / "streaming" / "code" / "score.py"))

    async def said(prompt, most):
        await script["init"]()
        words = []
        async with aclosing(script["run"](prompt)) as events:
            async for event in events:
                words.append(event.data["word"])
                if len(words) == most:
                    break
        return " ".join(words)

    assert told["content type"] == "text/event-stream"
    assert told["sentence"] == asyncio.run(said({"word": "gull"}, 1000))
    assert told["enough"] == asyncio.run(said({"word": "tide", "forever": True}, 5))
    assert re.match(r"404 .*No sentence has 'submarine' in it\.", told["refused"])
    assert 5 <= int(told["said, when five were heard"]) < 500


def test_batching(home):
    told = run_ours(home, "batching")
    expected = say_here(
        "batching",
        "import joblib, json; model = joblib.load('models/forest.joblib');"
        "print(model.predict(json.load(open('patients.json'))).tolist())",
    )
    assert json.loads(told["alone"]) == {"progression": expected[0], "together": 1}
    assert json.loads(told["progressions"]) == pytest.approx(expected)
    assert told["always the same"] == "True"
    assert 1 < int(told["in one call, at most"]) <= 16
    assert re.match(r"422 .*10 numbers were expected\.", told["refused"])


def test_simple_deployment(home):
    told = run_here(home, "simple_deployment")
    expected = say_here(
        "simple_deployment",
        "import joblib, json; model = joblib.load('models/model.joblib');"
        "print(model.predict(json.load(open('sample-request.json'))['data']).tolist())",
    )
    assert json.loads(told["progression"]) == json.loads(told["by name"])["progression"] == expected
    assert told["endpoint"] == "key, simple deployment, is there: True"
    assert told["deployment"] == "blue, 1 x Standard_DS3_v2"
    assert told["traffic"] == "{'blue': 100}"
    assert told["the log has the calls"] == "True"
    assert told["deployments"] == "['blue']"
    assert not json.loads(home.run("status", "--json").stdout)["endpoints"]


def test_safe_rollout(home):
    told = run_here(home, "safe_rollout")
    folder = SAMPLES / "safe_rollout"
    asked = json.loads((folder / "sample-request.json").read_text())["kilometres"]
    for colour, answer in (("blue", told["blue alone"]), ("green", told["green, by name"])):
        model = json.loads((folder / "models" / colour / "model.json").read_text())
        minutes = [model["intercept"] + model["slope"] * each for each in asked]
        assert json.loads(answer) == {"model": model["name"], "minutes": pytest.approx(minutes)}
    assert told["callers hear"] == told["with copies to green, callers hear"] == "{'average': 50}"
    shares = {model: int(count) for model, count in re.findall(r"'(\w+)': (\d+)", told["a tenth for green"])}
    assert sum(shares.values()) == 200
    assert 0 < shares["line"] < 60 < shares["average"]
    assert told["a step back"] == "{'average': 50}"
    assert told["all for green"] == "{'line': 50} {'blue': 0, 'green': 100}"
    assert told["left"] == "['green'] callers hear: {'line': 50}"


def test_inference_schema(home):
    told = run_here(home, "inference_schema")
    rents = say_here(
        "inference_schema",
        "import numpy as np; m = np.load('models/flats.npz');"
        "print([float(round(x)) for x in np.array([[70, 3, 2], [28.5, 1, 7]]) @ m['weights'] + m['base']])",
    )
    assert json.loads(told["numpy"]) == json.loads(told["pandas"]) == {"rents": rents}
    assert json.loads(told["standard"]) == {"rent": rents[0], "currency": "EUR"}
    assert re.match(
        r"400 .*'flats'.* of the shape \(\*, 3\), such as \[\[70.0, 3.0, 2.0\]\]", told["numpy, wrong input"]
    )
    assert re.match(r"400 .*'flats'.* the columns size, rooms, floor", told["pandas, wrong input"])
    assert re.match(r"400 .*A value is not provided for the 'floor' parameter", told["standard, wrong input"])


def test_openapi(home):
    told = run_here(home, "openapi")
    model = json.loads((SAMPLES / "openapi" / "models" / "house.json").read_text())
    degrees = [model["intercept"] + model["slope"] * hours for hours in (2.0, 8.5)]
    calls = {key.partition("{")[2]: line for key, line in told.items() if key.startswith("  POST /score")}
    asked, answer = calls['"hours_of_sun"'].split(" -> ")
    assert asked == '[2.0, 8.5], "unit": "celsius"}'
    assert json.loads(answer) == {"degrees": pytest.approx(degrees), "unit": "celsius"}
    asked, answer = calls['"hours"'].split(" -> ")
    assert asked == "2.0}"
    assert float(answer) == pytest.approx(degrees[0])
    assert told["OpenAPI 2"] == "Warmth"


def test_binary_payloads(home):
    told = run_here(home, "binary_payloads")
    folder = SAMPLES / "binary_payloads"
    curve = (folder / "models" / "curve.bin").read_bytes()
    header, _, dim = (folder / "picture.pgm").read_bytes().partition(b"\n")
    bright = dim.translate(curve)
    assert (folder / "brighter.pgm").read_bytes() == header + b"\n" + bright
    assert told["picture"] == f"200, image/x-portable-graymap, 64x48, {len(header) + 1 + len(dim)} bytes"
    assert json.loads(told["GET"]) == {"level": 55, "becomes": curve[55]}
    assert told["not a picture"] == "a PGM picture was expected"
    status, _, document = told["files"].partition(", ")
    assert status == "200"
    assert json.loads(document) == {
        "album": "dusk",
        "pictures": [
            {
                "name": name,
                "size": [64, 48],
                "brightness": sum(pixels) / len(pixels),
                "brightened": sum(pixels.translate(curve)) / len(pixels),
            }
            for name, pixels in (("before.pgm", dim), ("after.pgm", bright))
        ],
    }


def test_multi_model(home):
    told = run_here(home, "multi_model")
    folder = SAMPLES / "multi_model"
    for name in ("parcels", "icecream"):
        asked = json.loads((folder / "requests" / f"{name}.json").read_text())["data"]
        model = json.loads((folder / "models" / f"{name}.json").read_text())
        predictions = [model["intercept"] + model["slope"] * each for each in asked]
        assert json.loads(told[name]) == {"model": name, "predictions": pytest.approx(predictions)}
    assert told["registered"] == "parcels-and-icecream True"
    assert re.match(r"404 .*There is no model 'ships': icecream, parcels\.$", told["ships"])


def test_own_container(home, docker_engine):
    docker_engine.images.get("modelport-test/base:bookworm").tag("debian", "bookworm-slim")  # no registry is reached
    try:
        told = run_here(home, "own_container", "docker")
    finally:
        home.run("down")
    assert json.loads(told["brest"]) == {"harbour": "brest", "at": "06:17", "metres": 6.9, "unit": "m"}
    assert json.loads(told["lisbon"]) == {"harbour": "lisbon", "at": "05:42", "metres": 3.6, "unit": "m"}


def test_mlflow_no_code(azure_stub):
    told = run_against_azure(azure_stub, "mlflow_no_code")
    assert told["endpoint"] == "aml_token, {'team': 'shop'}, {'blue': 75, 'green': 25}"
    assert told["blue"] == "shelf/versions/1, no script, no environment, 2 instances"
    assert told["green"] == "shelf/versions/2, no script, no environment, 1 instances"
    (blue,) = sent_to(azure_stub, "/deployments/blue")
    assert not {"codeConfiguration", "environmentId"} & {name for name, said in blue["properties"].items() if said}
    (model,) = sent_to(azure_stub, "/models/shelf/versions/2")
    assert model["properties"]["modelType"] == "mlflow_model"
    folder = SAMPLES / "mlflow_no_code" / "model"
    sent = {place.partition("/model/")[2]: content for place, content in azure_stub.blobs.items()}
    for path in (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        assert sent[path.relative_to(folder).as_posix()] == path.read_bytes()


def test_kubernetes(azure_stub):
    told = run_against_azure(azure_stub, "kubernetes")
    assert told["endpoint"] == "KubernetesOnlineEndpoint on harbour-cluster"
    assert told["traffic"] == "{'blue': 40, 'green': 60}"
    assert told["blue"].endswith("cpu 500m to 2, memory 1Gi to 2Gi, gpu 1, 1 to 8 replicas at 65%")
    assert told["green"].endswith("cpu 100m to 1, memory 0.5Gi to 1Gi, gpu None, 2 to 6 replicas at 70%")
    first, changed = (body["properties"] for body in sent_to(azure_stub, "/deployments/blue"))
    assert first["endpointComputeType"] == "Kubernetes"
    assert first["containerResourceRequirements"]["containerResourceLimits"]["gpu"] == "1"
    assert changed["scaleSettings"] == {**first["scaleSettings"], "maxInstances": 8}
    differing = {name for name in first if changed.get(name) != first[name]}
    assert differing == {"scaleSettings"}


@pytest.mark.parametrize(
    "path", sorted(each for each in SAMPLES.iterdir() if each.is_dir()), ids=lambda path: path.name
)
def test_every_sample_has_a_test_a_short_readme_and_schemas_for_editors(path):
    assert f"test_{path.name}" in globals()
    assert len((path / "README.md").read_text().splitlines()) <= 40
    entities = [each for each in path.glob("*.yml") if each.name != "conda.yml"]
    assert entities
    for each in entities:
        (schema,) = re.findall(r"\A\$schema: (\S+)\n", each.read_text())
        assert (path / schema).resolve().is_file()


@pytest.mark.parametrize("sample", sorted(FOR_AZURE))
def test_samples_for_azure_know_nothing_of_modelport(sample):
    folder = SAMPLES / sample
    for path in folder.rglob("*.py"):
        assert "modelport" not in path.read_text().lower()
    named = set()
    for node in ast.walk(ast.parse((folder / f"{sample}.py").read_text())):
        named |= {each.name for each in node.names} if isinstance(node, ast.Import) else set()
        named |= {node.module} if isinstance(node, ast.ImportFrom) else set()
    azure = {name for name in named if name.startswith(("azure.ai.ml", "azure.identity", "azure.core"))}
    assert azure
    assert {name.partition(".")[0] for name in named - azure} <= sys.stdlib_module_names
