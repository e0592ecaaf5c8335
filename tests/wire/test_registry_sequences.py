"""
Registries and packages, request by request: a service cannot tell Modelport from Azure's own client.

The recorded calls are made in their order, each by a new client, against one service that
keeps what it is sent.
"""

import os
from pathlib import Path

import pytest
from tests.wire.differences import TABLE
from tests.wire.recordings import REGISTRIES, comparable, recorded_requests, seen_request

from modelport.entities import (
    AzureMLOnlineInferencingServer,
    BaseEnvironment,
    BuildContext,
    CodeConfiguration,
    CustomInferencingServer,
    Environment,
    ManagedOnlineDeployment,
    Model,
    ModelPackage,
)

LABELS = [each["label"] for each in REGISTRIES]
MISSPELT = "registry model list"
"""Azure's client writes Python's name for the view, `ListViewType.ACTIVE_ONLY`, where it writes `ActiveOnly` else."""
CRASHES = "deployment create, packaged"
"""Azure's client asks the answer, a dict, for its `id`; Modelport goes on with the environment that it names."""
IN_THE_END = [
    "GET {WS}/environments/packaged-env/versions/1",
    "PUT {WS}/onlineEndpoints/tides/deployments/gold",
    "GET {WS}/onlineEndpoints/tides/deployments/gold",
]
SEA = "azureml://registries/sea"
ENDPOINT = {"location": "westeurope", "properties": {"authMode": "Key"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that were beside the script."""
    folder = tmp_path_factory.mktemp("script")
    script = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"
    for name, text in {
        "src/scorer.py": script,
        "src2/scorer.py": script.replace("return data", "return data  # src2"),
        "src3/scorer.py": script.replace("return data", "return data  # src3"),
        "weights/labels.txt": "cat\ndog\n",
        "weights/v2/net.bin": "\0\1\2\3",
        "net.bin": "\0\1",
        "ctx/Dockerfile": "FROM python:3.11-slim\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def deployment(name="teal", **values):
    return ManagedOnlineDeployment(
        name=name, endpoint_name="tides", instance_type="Standard_DS3_v2", instance_count=1, **values
    )


def code(folder):
    return CodeConfiguration(code=folder, scoring_script="scorer.py")


def deploy(client, *arguments, **values):
    return client.online_deployments.begin_create_or_update(deployment(*arguments, **values)).result()


def package(target, server, **values):
    return ModelPackage(target_environment=target, inferencing_server=server, **values)


def names(found, attribute="name"):
    return [getattr(each, attribute) for each in found]


TO_SEA = {"registry_name": "sea"}
IN_WORKSPACE = {
    "model share": lambda c: c.models.share("net", "1", share_with_name="net", share_with_version="3", **TO_SEA),
    "model share, there already": lambda c: c.models.share(
        "net", "1", share_with_name="net", share_with_version="3", **TO_SEA
    ),
    "environment share": lambda c: c.environments.share(
        "envy", "1", share_with_name="envoy", share_with_version="1", **TO_SEA
    ),
    "model share, no such registry": lambda c: c.models.share(
        "net", "1", share_with_name="net", share_with_version="3", registry_name="desert"
    ),
    "deployment create, registry references": lambda c: deploy(
        c,
        model=f"{SEA}/models/net/versions/3",
        environment=f"{SEA}/environments/envoy/versions/1",
        code_configuration=code("src"),
    ),
    "deployment create, registry labels": lambda c: deploy(
        c, model=f"{SEA}/models/net/labels/latest", environment=f"{SEA}/environments/envoy/labels/latest"
    ),
    "model package": lambda c: c.models.package(
        "net",
        "1",
        package(
            "packed",
            AzureMLOnlineInferencingServer(code_configuration=code("src2")),
            base_environment_source=BaseEnvironment(type="asset", resource_id="azureml:envy:1"),
        ),
    ),
    "model package, environment version": lambda c: c.models.package(
        "net", "1", package("azureml:packed:7", CustomInferencingServer())
    ),
    "model package, operation and location": lambda c: c.models.package(
        "net", "1", package("boxed", CustomInferencingServer())
    ),
    "deployment create, packaged": lambda c: c.online_deployments.begin_create_or_update(
        deployment("gold", model="azureml:net:1", code_configuration=code("src3"), environment="azureml:envy:1"),
        package_model=True,
    ).result(),
}
IN_REGISTRY = {
    "registry model get": lambda c: c.models.get("net", "3"),
    "registry model get missing": lambda c: c.models.get("absent", "3"),
    "registry model get latest": lambda c: c.models.get("net", label="latest"),
    "registry model list": lambda c: names(c.models.list()),
    "registry model versions": lambda c: names(c.models.list("net"), "version"),
    "registry model create, folder, no version": lambda c: c.models.create_or_update(
        Model(name="mesh", path="weights")
    ),
    "registry model create again, same content": lambda c: c.models.create_or_update(
        Model(name="mesh", path="weights")
    ),
    "registry model create, single file, version": lambda c: c.models.create_or_update(
        Model(name="mesh", version="9", path="net.bin")
    ),
    "registry model create, version there already": lambda c: c.models.create_or_update(
        Model(name="mesh", version="9", path="net.bin")
    ),
    "registry model download": lambda c: c.models.download("mesh", "1", "dl"),
    "registry model download, single file": lambda c: c.models.download("mesh", "9", "dl9"),
    "registry model archive": lambda c: c.models.archive("mesh", "1"),
    "registry model restore": lambda c: c.models.restore("mesh", "1"),
    "registry model archive, all versions": lambda c: c.models.archive("mesh"),
    "registry environment create": lambda c: c.environments.create_or_update(
        Environment(name="envy", version="1", image="i:1")
    ),
    "registry environment create, no version": lambda c: c.environments.create_or_update(
        Environment(name="envy", image="i:2")
    ),
    "registry environment create from build context": lambda c: c.environments.create_or_update(
        Environment(name="benv", version="1", build=BuildContext(path="ctx"))
    ),
    "registry environment get": lambda c: c.environments.get("envoy", "1"),
    "registry environment get latest": lambda c: c.environments.get("envy", label="latest"),
    "registry environment list": lambda c: names(c.environments.list()),
    "registry environment versions": lambda c: names(c.environments.list("envy"), "version"),
    "registry model create, no name": lambda c: c.models.create_or_update(Model(path="weights")),
    "registry environment create, no name": lambda c: c.environments.create_or_update(Environment(image="i:3")),
}


@pytest.fixture(scope="module")
def played(folder, module_azure):
    """All calls, each by a new client: label → (requests, result, error), and where the service was."""
    stub, make = module_azure
    stub.registry("sea")
    stub.add("onlineEndpoints/tides", ENDPOINT)
    stub.add("environments/envy/versions/1", {"properties": {"image": "i:1"}})
    stub.add("models/net/versions/1", {"properties": {"modelType": "custom_model", "modelUri": "azureml://x"}})
    found, before = {}, Path.cwd()
    os.chdir(folder)
    try:
        for label in LABELS:
            stub.also_operation = "operation and location" in label
            result, error, start = None, None, len(stub.seen)
            try:
                if label in IN_REGISTRY:
                    result = IN_REGISTRY[label](make(registry_name="sea"))
                else:
                    result = IN_WORKSPACE[label](make())
            except Exception as raised:  # noqa: BLE001 - one call's failure is one test's
                error = raised
            found[label] = ([seen_request(each, stub.workspace) for each in stub.seen[start:]], result, error)
    finally:
        os.chdir(before)
    return found, stub.url


@pytest.mark.parametrize("operation", REGISTRIES, ids=LABELS)
def test_a_call_makes_the_recorded_requests(operation, played):
    found, url = played
    label = operation["label"]
    theirs, ours = recorded_requests(operation, url), found[label][0]
    if label == MISSPELT:
        assert theirs[-1].query["listViewType"] == "ListViewType.ACTIVE_ONLY"
        theirs[-1].query["listViewType"] = "ActiveOnly"
    if label == CRASHES:
        ours, others = ours[: len(theirs)], ours[len(theirs) :]
        assert [each.name for each in others if "/operationsStatus/" not in each.name] == IN_THE_END
    recorded = {name for each in theirs for name in each.headers}
    assert comparable(ours, recorded) == comparable(theirs, recorded)


@pytest.mark.parametrize("operation", REGISTRIES, ids=LABELS)
def test_no_header_gives_modelport_away(operation, played):
    for theirs, ours in zip(operation["requests"], played[0][operation["label"]][0], strict=False):
        if not ours.is_content:
            assert set(ours.headers) == {name.lower() for name in [*theirs["headers"], *theirs["other_headers"]]}


@pytest.mark.parametrize("operation", REGISTRIES, ids=LABELS)
def test_a_call_returns_what_was_recorded(operation, played):
    label, expected = operation["label"], operation["returns"]
    _, result, error = played[0][label]
    if label == CRASHES:
        assert (error, result.model, result.code_configuration) == (None, None, None)
        assert result.environment.endswith("/environments/packaged-env/versions/1")
    elif label == "registry model create, version there already":  # where Azure's client tells nobody why
        assert type(error).__name__ == "ResourceExistsError"
    elif operation["error"]:
        name, _, message = operation["error"].partition(": ")
        assert type(error).__name__ == name
        assert message.partition("\n")[0].rpartition(") ")[2] in str(error)
    elif expected is None or isinstance(expected, list):
        assert (error, result) == (None, expected)
    else:
        assert (error, type(result).__name__) == (None, expected)


def test_a_download_is_what_was_uploaded(folder, played):
    assert played
    for name in ("labels.txt", "v2/net.bin"):
        assert (folder / "dl/mesh/weights" / name).read_bytes() == (folder / "weights" / name).read_bytes()
    assert (folder / "dl9/mesh/net.bin").read_bytes() == (folder / "net.bin").read_bytes()


def test_differences_are_counted_with_all_others():
    assert len(TABLE) + len([MISSPELT, CRASHES]) <= 8
