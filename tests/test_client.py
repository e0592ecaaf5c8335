"""`MLClient`: which workspace it is for, before anything is sent."""

import json

import pytest

from modelport.client import MLClient
from modelport.errors import ValidationException

NAMES = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


def _names(client):
    return client.subscription_id, client.resource_group_name, client.workspace_name


def test_a_client_for_azure_sends_nothing():
    client = MLClient(object(), "s", "g", "w")
    assert _names(client) == ("s", "g", "w")
    assert repr(client) == "MLClient(subscription_id='s', resource_group_name='g', workspace_name='w')"


def test_a_client_without_a_credential_is_refused():
    with pytest.raises(ValueError, match=r"MLClient\.local\(\)"):
        MLClient(None, "s", "g", "w")


def test_a_workspace_must_be_wholly_named():
    with pytest.raises(ValidationException, match="resource_group_name, workspace_name"):
        MLClient(object(), "s")


@pytest.mark.parametrize("said", [NAMES, {"Scope": SCOPE}])
@pytest.mark.parametrize("place", ["config.json", ".azureml/config.json", "aml_config/project.json"])
def test_a_config_is_found_in_the_folder_and_above_it(tmp_path, said, place):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(json.dumps(said))
    assert _names(MLClient.from_config(object(), path=tmp_path / "a" / "b")) == ("s", "g", "w")
    assert _names(MLClient.from_config(object(), path=tmp_path / place)) == ("s", "g", "w")


@pytest.mark.parametrize("text", ["{", "[]", '{"subscription_id": "s"}', '{"Scope": "/subscriptions/s"}'])
def test_a_config_that_names_no_workspace_is_told(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValidationException, match=r"config\.json' does not name a workspace.*It needs subscription_id"):
        MLClient.from_config(object(), path=tmp_path)


def test_no_config_is_told(tmp_path):
    with pytest.raises(ValidationException, match=r"No mine\.json in "):
        MLClient.from_config(object(), path=tmp_path, file_name="mine.json")
