"""What is found before anything is sent: certain things as errors, guesses as warnings, in seconds."""

import logging
import time

import pytest

from modelport.client import MLClient
from modelport.entities import (
    BuildContext,
    CodeConfiguration,
    Environment,
    InferenceConfig,
    KubernetesOnlineDeployment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
    ProbeSettings,
    Route,
)
from modelport.entities.base import changed
from modelport.errors import ValidationException
from modelport.operations import distributions
from modelport.operations.preflight import report

GOOD = "def init(): pass\ndef run(raw): return 1\n"


@pytest.fixture
def deployment(tmp_path):
    """A deployment with this script, conda file and model; other values as they are given."""

    def make(script=GOOD, *, pip=None, model=None, files=(), kind=ManagedOnlineDeployment, **values):
        folder = tmp_path / "code"
        for name, text in {"score.py": script, **dict(files)}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        if pip is not None:
            values["environment"] = Environment(image="any", conda_file=conda(*pip))
        if model is not None:
            values["model"] = Model(path=str(model))
        code = CodeConfiguration(code=str(folder), scoring_script="score.py")
        said = {"name": "blue", "endpoint_name": "tides", "code_configuration": code, **values}
        return kind(**said)

    return make


def conda(*packages):
    return {"dependencies": ["python=3.11", "pip", {"pip": list(packages)}]}


def found(deployment, **said):
    return [(each.severity, each.field, each.message) for each in report(deployment, **said)]


def warned(deployment, **said):
    """The messages, none of which is an error."""
    assert report(deployment, **said).ok, str(report(deployment, **said))
    return [each.message for each in report(deployment, **said)]


def test_a_good_deployment_has_no_finding(deployment, tmp_path):
    (tmp_path / "net.bin").write_bytes(b"weights")
    plain = report(deployment("import json, os, numpy as np\n" + GOOD, pip=["numpy"], model=tmp_path / "net.bin"))
    assert (plain.findings, plain.ok) == ((), True)
    assert str(plain) == repr(plain) == "Deployment 'blue' of 'tides': nothing was found wrong."
    assert "nothing was found" in plain._repr_html_()


def test_a_client_needs_no_service_for_it(deployment):
    class Nobody:
        def get_token(self, *_scopes, **_):
            raise AssertionError("it was asked for a token")

    client = MLClient(Nobody(), "s", "g", "w")
    findings = client.preflight(deployment()).findings
    assert [each.field for each in findings] == ["instance_type"], "which Azure asks for"
    assert client.preflight(ManagedOnlineEndpoint(name="tides")).ok


def test_an_endpoints_rules_are_looked_at_too():
    endpoint = ManagedOnlineEndpoint(name="tides", traffic={"blue": 100}, mirror_traffic={"blue": 60})
    (first, second) = report(endpoint).errors
    assert "at most 50%" in first.message
    assert "live or mirrored" in second.message
    with pytest.raises(TypeError, match=r"preflight\(\) takes"):
        report("tides")


def test_what_is_found_is_shown_and_raised(deployment, tmp_path):
    bad = report(deployment("import sklearn\ndef init(): pass\n", pip=["<b>"], instance_count=60))
    assert [each.severity for each in bad.findings] == ["warning", "error"]
    assert not bad.ok
    assert "error: code_configuration.scoring_script: " in str(bad)
    assert "has no run() function" in bad._repr_html_()
    with pytest.raises(ValidationException, match=r"has no run\(\)") as caught:
        bad.raise_errors()
    assert [each["target"] for each in caught.value.details] == ["code_configuration.scoring_script"]


# Limits


def test_azures_limits(deployment):
    assert "50" in warned(deployment(instance_count=51))[0]
    long = deployment(request_settings=OnlineRequestSettings(request_timeout_ms=180_001))
    assert "180000" in found(long)[0][2]
    names = {"name": "b" * 32, "endpoint_name": "t" * 31, "kind": KubernetesOnlineDeployment}
    assert [each[:2] for each in found(deployment(**names))] == [("error", "name")]
    assert found(deployment(**{**names, "endpoint_name": "t" * 30})) == []


def test_what_only_azure_asks_for(deployment):
    assert warned(deployment()) == []
    assert "No instance_type" in warned(deployment(), azure=True)[0]
    assert "too small" in warned(deployment(instance_type="Standard_DS2_v2"), azure=True)[0]
    assert warned(deployment(instance_type="Standard_DS3_v2"), azure=True) == []
    bare = deployment(instance_type="Standard_DS3_v2", pip=["numpy"])
    assert "Azure's inference server" in warned(bare, azure=True)[0]
    bare.environment.image = "mcr.microsoft.com/azureml/minimal-ubuntu22.04-py39-cpu-inference"
    assert "Azure's inference server" in warned(bare, azure=True)[0], "the conda environment is another one"
    assert warned(bare) == []
    for good in (["azureml-inference-server-http"], ["azureml-defaults"], ["-r other.txt"]):
        assert warned(deployment(instance_type="Standard_DS3_v2", pip=good), azure=True) == []


def test_what_azure_has_nothing_to_run_for(deployment, tmp_path):
    (tmp_path / "net.bin").write_bytes(b"weights")
    bare = deployment(instance_type="Standard_DS3_v2", model=tmp_path / "net.bin")
    assert "without an environment" in warned(bare, azure=True)[0]
    bare.environment, bare.code_configuration = Environment(image="any"), None
    assert "without a scoring script" in warned(bare, azure=True)[0]
    bare.environment = "azureml:somewhere:1"
    assert warned(bare, azure=True) == []
    bare.model.type, bare.environment = "triton_model", None
    assert warned(bare, azure=True) == []


def test_the_size_of_a_request(deployment, tmp_path):
    request = tmp_path / "request.bin"
    with request.open("wb") as file:
        file.truncate(30 << 20)
    assert "take longer" in warned(deployment(), request_file=request)[0]
    slow = deployment(request_settings=OnlineRequestSettings(request_timeout_ms=60_000))
    assert warned(slow, request_file=request) == []
    with request.open("wb") as file:
        file.truncate(101 << 20)
    assert "413" in warned(slow, request_file=request)[0]
    assert found(deployment(), request_file="missing.json")[0][:2] == ("error", "request_file")


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ({"liveness_probe": ProbeSettings(timeout=11)}, "longer than period"),
        ({"liveness_probe": ProbeSettings(success_threshold=2)}, "only 1 for liveness"),
        ({"readiness_probe": ProbeSettings(success_threshold=2)}, None),
        ({"readiness_probe": ProbeSettings(initial_delay=1, period=2, failure_threshold=2)}, "has 5 s"),
        ({"readiness_probe": ProbeSettings()}, None),
    ],
)
def test_probes_that_may_never_pass(deployment, tmp_path, probes, said):
    (tmp_path / "net.bin").write_bytes(b"weights")
    messages = warned(deployment(model=tmp_path / "net.bin", **probes))
    assert [said in each for each in messages] == ([True] if said else [])


def test_routes_of_a_container(deployment):
    good = Route(port=8501, path="/ready")
    config = InferenceConfig(liveness_route=Route(port=0, path="live"), readiness_route=good, scoring_route=good)
    environment = Environment(image="any", inference_config=config)
    port, path = found(deployment(environment=environment))
    assert port[:2] == ("error", "environment.inference_config.liveness_route.port")
    assert path[0] == "warning"
    assert "'live' does not start with a slash" in path[2]


def test_variables(deployment):
    values = {"AZUREML_MODEL_DIR": "/x", "COUNT": 1, "ON": True, "FINE": "1"}
    findings = report(deployment(environment_variables=values)).findings
    assert [each.field.partition(".")[2] for each in findings] == ["AZUREML_MODEL_DIR", "COUNT", "ON"]
    assert "Write 'true', in quotes." in findings[2].remedy
    byoc = ManagedOnlineDeployment(name="blue", endpoint_name="tides", environment_variables={"AZUREML_MODEL_DIR": "x"})
    assert warned(byoc) == [], "a container of the user's own may say where it looks"


# Conda files


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"dependencies": ["pip", {"pip": ["numpy"]}]}, "does not name Python's version"),
        ({"dependencies": ["python=3.11", {"pip": ["numpy"]}]}, "pip is not among its packages"),
        ({"channels": ["conda-forge"]}, "no list of dependencies"),
        (conda("numpy"), None),
        ({"dependencies": ["conda-forge::python=3.10", "pip=24.0", {"pip": ["numpy"]}]}, None),
    ],
)
def test_conda_files(deployment, tmp_path, document, said):
    messages = warned(deployment(environment=Environment(image="any", conda_file=document)))
    assert [said in each for each in messages] == ([True] if said else [])


def test_a_conda_file_that_is_no_yaml_is_an_error(deployment, tmp_path):
    (tmp_path / "conda.yml").write_text("dependencies: [")
    environment = Environment(image="any", conda_file=str(tmp_path / "conda.yml"))
    assert [each[:2] for each in found(deployment(environment=environment))] == [("error", "environment.conda_file")]


# Models


def test_models(deployment, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow.bin").touch()
    assert found(deployment(model=tmp_path / "empty"))[0][0] == "error"
    assert "is empty" in warned(deployment(model=tmp_path / "hollow.bin"))[0]
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "model.pkl").write_bytes(b"1")
    flow = Model(path=str(tmp_path / "flow"), type="mlflow_model")
    assert "no MLmodel" in warned(changed(deployment(), model=flow))[0]
    bare = ManagedOnlineDeployment(name="blue", endpoint_name="tides", model=flow)
    assert found(bare)[0][:2] == ("error", "model.path")


@pytest.mark.parametrize(
    "opening",
    [
        'os.path.join(os.environ["AZUREML_MODEL_DIR"], {steps})',
        'os.path.join(os.getenv("AZUREML_MODEL_DIR"), {steps}, name)',
        'Path(os.environ["AZUREML_MODEL_DIR"]) / {slashed}',
        'Path(os.environ.get("AZUREML_MODEL_DIR")) / {slashed} / name',
        "os.path.join(folder, {steps})",
        "folder / {slashed}",
    ],
)
@pytest.mark.parametrize(
    ("steps", "there"),
    [(["net"], True), (["net", "a.bin"], True), (["net/a.bin"], True), (["a.bin"], False), (["net", "b.bin"], False)],
)
def test_files_that_the_script_opens_in_the_model(deployment, tmp_path, opening, steps, there):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "a.bin").write_bytes(b"1")
    joined = opening.format(steps=", ".join(map(repr, steps)), slashed=" / ".join(map(repr, steps)))
    script = (
        "import os\nfrom pathlib import Path\n"
        f"def init():\n    folder = os.environ['AZUREML_MODEL_DIR']\n    {joined}\ndef run(raw): pass\n"
    )
    messages = warned(deployment(script, model=tmp_path / "net"))
    assert bool(messages) != there
    if messages:
        assert f"line 5: AZUREML_MODEL_DIR will have no '{'/'.join(steps)}'" in messages[0]


def test_a_model_that_is_one_file_is_opened_by_its_name(deployment, tmp_path):
    (tmp_path / "net.bin").write_bytes(b"1")
    script = "import os\ndef init(): os.path.join(os.environ['AZUREML_MODEL_DIR'], {!r})\ndef run(raw): pass\n"
    assert warned(deployment(script.format("net.bin"), model=tmp_path / "net.bin")) == []
    (message,) = warned(deployment(script.format("model.bin"), model=tmp_path / "net.bin"))
    assert "it has 'net.bin'" in message


# Scripts


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("def init(model): pass\ndef run(raw): return 1\n", "arguments in init()"),
        ("def init(*, model): pass\ndef run(raw): return 1\n", "arguments in init()"),
        ("def init(): pass\ndef run(*args): return 1\n", "*args in run()"),
        ("async def init(): pass\nasync def run(raw): return 1\n", None),
        ("def init(model=None): pass\ndef run(raw, other=1): return 1\n", None),
        ("@wrapped\ndef init(model): pass\ndef run(raw): return 1\n", None),
        ("from serving import *\n", None),
    ],
)
def test_functions_that_cannot_be_called(deployment, script, said):
    findings = found(deployment(script))
    assert [(each[0], said in each[2]) for each in findings] == ([("error", True)] if said else [])
    assert report(deployment(script), skip_script_validation=True).ok


def test_a_script_that_azure_would_not_await_is_a_fault_there_alone(deployment):
    wanted = deployment("def init(): pass\nasync def run(raw): return 1\n")
    assert report(wanted).ok
    (error,) = report(wanted, azure=True).errors
    assert "async run(), which Azure's inference server does not await" in error.message


# What the script imports


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("import sklearn.linear_model", "scikit-learn"),
        ("from PIL import Image", "pillow"),
        ("import cv2", "opencv-python"),
        ("import yaml", "pyyaml"),
        ("from azureml.core import Workspace", "azureml-core"),
        ("import azure.keyvault.secrets", "azure-keyvault-secrets"),
        ("import some_thing", "some-thing"),
        ("def load():\n    import torch", "torch"),
    ],
)
def test_a_package_that_nobody_brings(deployment, line, package):
    (finding,) = report(deployment(f"{line}\n{GOOD}", pip=["joblib"])).findings
    assert (finding.severity, finding.field) == ("warning", "environment.conda_file")
    assert "no package of the conda file brings it" in finding.message
    assert f"Add {package}, " in finding.remedy


@pytest.mark.parametrize(
    ("line", "packages"),
    [
        ("import sklearn, numpy, scipy, joblib", ["scikit-learn==1.5"]),
        ("import sklearn", ["Scikit_Learn>=1"]),
        ("import torch", ["torch @ https://example.org/torch-2.0.whl"]),
        ("import some_thing.inner", ["some.thing[extra]==1; python_version > '3'"]),
        ("import anything", ["-r requirements.txt"]),
        ("import anything", ["git+https://example.org/anything.git"]),
        ("import anything", ["./wheels/anything-1.whl"]),
        ("from azureml.contrib.services.aml_request import rawhttp", []),
        ("try:\n    import anything\nexcept ImportError:\n    anything = None", []),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import anything", []),
        ("import sys\nsys.path.append('/models')\nimport anything", []),
        ("import os.path, concurrent.futures, xml.etree.ElementTree", []),
        ("from __future__ import annotations", []),
        ("import numpy", ["--extra-index-url https://example.org", "numpy"]),
    ],
)
def test_packages_that_may_be_there(deployment, line, packages):
    assert warned(deployment(f"{line}\n{GOOD}", pip=packages)) == []


def test_words_of_our_scoring_server_are_there_but_not_in_azure(deployment):
    script = f"from modelport_scoring import batched\n{GOOD}"
    told = deployment(script, pip=["azureml-inference-server-http"], instance_type="Standard_DS3_v2")
    assert warned(told) == []
    (message,) = warned(told, azure=True)
    assert "'modelport_scoring' is imported, and no package of the conda file brings it" in message


def test_condas_own_names(deployment):
    document = {"dependencies": ["python=3.11", "conda-forge::pytorch=2", "py-xgboost", "opencv", "pillow"]}
    script = "import torch, xgboost, cv2, PIL\n" + GOOD
    assert warned(deployment(script, environment=Environment(image="any", conda_file=document))) == []


@pytest.mark.parametrize(
    "environment", [None, Environment(image="any"), "azureml:sea:1", Environment(build=BuildContext(path="."))]
)
def test_packages_that_cannot_be_told_are_not_missed(deployment, environment):
    assert warned(deployment("import anything\n" + GOOD, environment=environment)) == []


def test_modules_beside_the_script_are_followed(deployment):
    files = {
        "helpers.py": "from deep import inner\n",
        "deep/__init__.py": "",
        "deep/inner.py": "from . import other\nfrom .other import name\nimport sklearn\n",
        "deep/other.py": "name = 1\nimport torch\n",
        "unused.py": "import tensorflow\n",
        "broken.py": "def (\n",
    }
    deployment = deployment("import helpers, broken\n" + GOOD, pip=[], files=files)
    findings = report(deployment).findings
    assert {each.field for each in findings} == {"environment.conda_file", "code_configuration.scoring_script"}
    told = " ".join(each.message for each in findings)
    assert "deep/inner.py, line 3: 'sklearn'" in told
    assert "deep/other.py, line 2: 'torch'" in told
    assert "'broken.py', line 1" in told
    assert "tensorflow" not in told
    assert report(deployment).ok


def test_a_script_in_a_folder_of_the_code_finds_its_neighbours(deployment, tmp_path):
    files = {"online/score.py": "import near, far\n" + GOOD, "online/near.py": "", "far.py": ""}
    one = deployment(pip=[], files=files)
    one.code_configuration.scoring_script = "online/score.py"
    assert warned(one) == []


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("azureml.ai.monitoring", "azureml-ai-monitoring"),
        ("azureml.core.model", "azureml-defaults"),
        ("mlflow.pyfunc", "azureml-mlflow"),
        ("onnxruntime", "onnxruntime-gpu"),
        ("cv2", "opencv-contrib-python-headless"),
        ("ruamel.yaml", "ruamel.yaml"),
        ("opentelemetry.trace", "opentelemetry-sdk"),
        ("Crypto.Cipher", "pycryptodome"),
        ("azure.storage.blob", "azure-storage-blob"),
    ],
)
def test_a_package_brings_modules_of_another_name(deployment, module, package):
    assert warned(deployment(f"import {module}\n" + GOOD, pip=[package])) == []
    (said,) = warned(deployment(f"import {module}\n" + GOOD, pip=[]))
    assert f"'{module}' is imported" in said


def test_imports_are_told_in_the_order_of_their_lines(deployment):
    told = warned(deployment("import sklearn\nfrom PIL import Image\nimport torch\n" + GOOD, pip=[]))
    assert [each.partition(":")[0] for each in told] == [f"score.py, line {line}" for line in (1, 2, 3)]


def test_it_does_not_take_minutes_with_many_files(deployment, tmp_path):
    files = {f"part{number}.py": f"import part{number + 1}\n" * 20 for number in range(1500)}
    files["part1500.py"] = "import sklearn\n"
    (tmp_path / "net").mkdir()
    for number in range(1500):
        (tmp_path / "net" / f"{number}.bin").write_bytes(b"1")
    one = deployment("import part0\n" + GOOD, pip=[], files=files, model=tmp_path / "net")
    distributions._installed.cache_clear()
    start = time.monotonic()
    (finding,) = report(one).findings
    assert time.monotonic() - start < 30
    assert "part1500.py, line 1: 'sklearn'" in finding.message


# Where it goes


def test_a_client_for_this_machine_tells_what_processes_cannot_do(ml_client, deployment):
    def fields(entity):
        assert report(entity).ok, "which Azure can do"
        return [each.field for each in ml_client.preflight(entity).errors]

    conda_file = {"dependencies": ["python", "numpy==="]}
    assert fields(deployment()) == []
    assert fields(deployment(code_configuration=None, environment="azureml:own:1")) == []  # nobody was asked what it is
    assert fields(deployment(code_configuration=None)) == ["code_configuration"]
    assert fields(deployment(kind=KubernetesOnlineDeployment)) == ["type"]
    assert fields(deployment(environment=Environment(image="any", conda_file=conda_file))) == ["environment.conda_file"]
    assert fields(ManagedOnlineEndpoint(name="tides", auth_mode="aad_token")) == ["auth_mode"]


def test_a_reference_without_a_version_is_an_error(deployment):
    ((severity, field, message),) = found(deployment(environment="azureml:own"))
    assert (severity, field) == ("error", "environment")
    assert "azureml:own:1 or azureml:own@latest" in message


def test_only_managed_deployments_have_a_most_of_instances(deployment):
    assert [each.field for each in report(deployment(instance_count=51))] == ["instance_count"]
    assert report(deployment(kind=KubernetesOnlineDeployment, instance_count=51)).findings == ()


# When it is deployed


def test_warnings_are_logged_and_stop_nothing(tides, sources, caplog):
    environment = Environment(image="any", conda_file={"dependencies": ["python", {"pip": []}]})
    with caplog.at_level(logging.WARNING, "modelport.operations.preflight"):
        one = sources.deployment(environment=environment, environment_variables={"COUNT": 1})
        tides.online_deployments.begin_create_or_update(one).result(120)
    said = [each.getMessage() for each in caplog.records if each.name == "modelport.operations.preflight"]
    assert any("environment_variables.COUNT: 1 is no text" in each for each in said)
    assert any("pip is not among its packages" in each for each in said)
