"""Names of things, in all the ways that people and Azure write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.arm import ids
from modelport.arm.ids import Reference, WorkspaceId
from modelport.entities import Code, Environment, ManagedOnlineDeployment, ManagedOnlineEndpoint, Model
from modelport.errors import ValidationException

WORKSPACE = WorkspaceId("00000000-0000-0000-0000-000000000000", "rg", "ws")
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(WORDS, WORDS, WORDS, st.lists(WORDS, max_size=4))
def test_a_path_is_parted_into_what_it_was_made_of(subscription, group, name, steps):
    workspace = WorkspaceId(subscription, group, name)
    below = "/".join(steps)
    assert ids.parted(f"{workspace}/{below}" if below else str(workspace)) == (workspace, below)


def test_the_fixed_words_of_a_path_are_read_in_any_case():
    path = str(WORKSPACE).replace("resourceGroups", "resourcegroups").replace("Microsoft", "microsoft")
    assert ids.parted(f"{path.replace('workspaces', 'Workspaces')}/onlineEndpoints/tides/") == (
        WORKSPACE,
        "onlineEndpoints/tides",
    )


@pytest.mark.parametrize("path", ["", "/", "/blobs/x", "/subscriptions/s", f"{WORKSPACE}x/"[1:], "/subscriptions//"])
def test_a_path_without_a_workspace_has_none(path):
    assert ids.parted(path) is None


@pytest.mark.parametrize(
    ("entity", "place"),
    [
        (ManagedOnlineEndpoint(name="Tides"), "onlineEndpoints/tides"),
        (ManagedOnlineDeployment(name="blue", endpoint_name="TIDES"), "onlineEndpoints/tides/deployments/blue"),
        (Model(name="net", version="7", path="x"), "models/net/versions/7"),
        (Environment(name="env", version=3, image="i"), "environments/env/versions/3"),
        (Code(name="c", version="1"), "codes/c/versions/1"),
    ],
)
def test_an_entity_has_one_place(entity, place):
    assert ids.place(entity) == place


def test_a_place_that_lacks_a_name_says_which():
    with pytest.raises(ValidationException, match="ManagedOnlineDeployment has no endpoint_name: name it") as caught:
        ids.place(ManagedOnlineDeployment(name="blue"))
    assert caught.value.target == "endpoint_name"
    with pytest.raises(ValidationException, match="Model has no version"):
        ids.place(Model(name="net", path="x"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("azureml:net:7", Reference("models", "net", "7")),
        ("azureml:net@latest", Reference("models", "net", label="latest")),
        ("azureml:My.Net_2:1.0-rc", Reference("models", "My.Net_2", "1.0-rc")),
        ("net:7", Reference("models", "net", "7")),
        ("net@latest", Reference("models", "net", label="latest")),
        (f"{WORKSPACE}/models/net/versions/7", Reference("models", "net", "7")),
        (f"{str(WORKSPACE).upper()}/MODELS/net/VERSIONS/7", Reference("models", "net", "7")),
        (f"azureml:{WORKSPACE}/models/net/versions/7", Reference("models", "net", "7")),
        (f"{WORKSPACE}/environments/net/versions/7", None),
        (f"{WORKSPACE}/models/net", None),
        (f"{str(WORKSPACE).replace('/ws', '/other')}/models/net/versions/7", None),
        ("azureml://registries/azureml/models/net/versions/7", None),
        ("azureml://registries/azureml/models/net/labels/latest", None),
        ("azureml://datastores/d/paths/p", None),
        ("https://host.test/x", None),
        ("runs:/1/model", None),
        ("./model", None),
    ],
)
def test_a_reference_in_every_form(text, meant):
    assert ids.reference(text, "models", WORKSPACE) == meant


def test_azures_own_environments_live_elsewhere():
    for text in ("azureml:AzureML-minimal:3", "AzureML-minimal@latest"):
        assert ids.reference(text, "environments", WORKSPACE) is None
    assert ids.reference("azureml:AzureML-minimal:3", "models", WORKSPACE)


def test_a_compute_needs_no_version():
    assert ids.reference("basement", "computes", WORKSPACE) == Reference("computes", "basement")
    assert ids.reference("azureml:basement", "computes", WORKSPACE) == Reference("computes", "basement")


def test_a_reference_without_a_version_says_what_to_write():
    with pytest.raises(ValidationException, match=r"write azureml:net:1 or azureml:net@latest"):
        ids.reference("azureml:net", "models", WORKSPACE)
