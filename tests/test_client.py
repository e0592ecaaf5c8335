"""`MLClient`: which workspace it is for, before anything is sent."""

import json
import os
import subprocess
import sys

import pytest

from modelport.client import MLClient
from modelport.errors import ValidationException
from modelport.transports import clouds

NAMES = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


def _names(client):
    return client.subscription_id, client.resource_group_name, client.workspace_name


def test_a_client_for_azure_sends_nothing():
    client = MLClient(object(), "s", "g", "w")
    assert _names(client) == ("s", "g", "w")
    assert repr(client) == "MLClient(subscription_id='s', resource_group_name='g', workspace_name='w')"


def test_a_client_shows_where_it_works_when_that_is_not_azure(monkeypatch):
    monkeypatch.setenv("MODELPORT_BACKEND", "process")
    assert repr(MLClient(None, "s", "g", "w")).endswith("workspace_name='w') on process")


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


def test_a_client_is_made_without_what_it_needs_to_talk():
    loaded = (
        "{'requests', 'tenacity', 'marshmallow', 'yaml', 'azure'} & {name.partition('.')[0] for name in sys.modules}"
    )
    script = f"import sys; from modelport import MLClient; MLClient(None, 's', 'g', 'w'); print({loaded})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_nothing_need_be_said_of_a_credential():
    assert _names(MLClient(subscription_id="s", resource_group_name="g", workspace_name="w")) == ("s", "g", "w")


def test_azures_keywords_are_taken():
    said = {
        "show_progress": False,
        "enable_telemetry": True,
        "cloud": "AzureUSGovernment",
        "connection_verify": False,
        "connection_cert": ("cert.pem", "key.pem"),
        "connection_timeout": 5,
        "read_timeout": 10,
        "retry_total": 0,
        "logging_enable": True,
        "proxies": {"https": "http://proxy.example:3128"},
    }
    assert _names(MLClient(object(), "s", "g", "w", **said)) == ("s", "g", "w")


@pytest.mark.parametrize(
    ("said", "near"), [("conection_verify", "connection_verify"), ("clod", "cloud"), ("show_proges", "show_progress")]
)
def test_a_keyword_that_there_is_not_is_named_with_the_nearest(said, near):
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{said}'\. Did you mean '{near}'\?"):
        MLClient(object(), "s", "g", "w", **{said: 1})


def test_a_keyword_like_no_other_is_told_those_there_are():
    with pytest.raises(TypeError, match=r"'zzzz'\. There are authentication_policy, cloud, .*show_progress"):
        MLClient(object(), "s", "g", "w", zzzz=1)


def test_a_registry_is_told():
    with pytest.raises(ValidationException, match="not both"):
        MLClient(object(), "s", "g", "w", "r")
    assert repr(MLClient(object(), "s", "g", registry_name="r")) == "MLClient(registry_name='r')"


@pytest.mark.parametrize("name", ["AzureChinaCloud", "azureusgovernment", "AzureCloud"])
def test_a_cloud_is_known_by_its_name(name, monkeypatch):
    assert clouds.named(name).name.lower() == name.lower()
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", name)
    assert clouds.named() == clouds.named(name)


@pytest.mark.parametrize(
    ("name", "manager", "login", "scoring", "storage"),
    [
        ("AzureCloud", "management.azure.com", "login.microsoftonline.com", "ml.azure.com", "core.windows.net"),
        (
            "AzureChinaCloud",
            "management.chinacloudapi.cn",
            "login.chinacloudapi.cn",
            "ml.azure.cn",
            "core.chinacloudapi.cn",
        ),
        (
            "AzureUSGovernment",
            "management.usgovcloudapi.net",
            "login.microsoftonline.us",
            "ml.azure.us",
            "core.usgovcloudapi.net",
        ),
    ],
)
def test_each_cloud_has_its_addresses(name, manager, login, scoring, storage):
    cloud = clouds.named(name)
    assert cloud.base_url == f"https://{manager}"
    assert cloud.management_scope == f"https://{manager}/.default"
    assert cloud.active_directory == f"https://{login}/"
    assert cloud.scoring_scope == f"https://{scoring}/.default"
    assert cloud.storage_endpoint == storage


def test_a_cloud_that_is_not_known_is_told_those_that_are():
    with pytest.raises(ValidationException, match=r"'Moon' is not a cloud.*AzureCloud, AzureChinaCloud, AzureUSGov"):
        MLClient(object(), "s", "g", "w", cloud="Moon")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "needs resource_manager"),
        ({"resource_manager": "https://a.example", "active_diretory": "x"}, "Did you mean 'active_directory'"),
        ({"resource_manager": "a.example"}, "'a.example', not a URL"),
    ],
)
def test_a_cloud_of_ones_own_must_say_where_it_is(metadata, said):
    with pytest.raises(ValidationException, match=said):
        MLClient(object(), "s", "g", "w", cloud="Moon", cloud_metadata=metadata)


def test_clouds_of_one_name_are_each_clients_own(monkeypatch):
    """Azure's client keeps the first one's addresses for the whole process, and writes the environment."""
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)
    opened = [
        MLClient(object(), "s", "g", "w", cloud="Moon", cloud_metadata={"resource_manager": url})._service.transport
        for url in ("https://one.example/", "https://two.example")
    ]
    assert [each._base_url for each in opened] == ["https://one.example", "https://two.example"]
    assert "AZUREML_CURRENT_CLOUD" not in os.environ
    for each in opened:
        each.close()


def test_a_developers_address_is_where_requests_go_and_tokens_stay_the_clouds(monkeypatch):
    monkeypatch.setenv("AZUREML_DEV_URL_MFE", "https://here.example/")
    cloud = clouds.named()
    assert (cloud.base_url, cloud.management_scope) == ("https://here.example", "https://management.azure.com/.default")


def test_a_script_is_sent_to_this_machine_by_its_environment(monkeypatch, short_folder):
    monkeypatch.setenv("MODELPORT_BACKEND", "process")
    monkeypatch.setenv("MODELPORT_HOME", str(short_folder))
    client = MLClient(None, "s", "g", "w")
    assert _names(client) == ("s", "g", "w")
    assert _names(MLClient.from_config(path=short_folder)) == (
        "00000000-0000-0000-0000-000000000000",
        "modelport",
        "local",
    )
    (short_folder / "config.json").write_text(json.dumps(NAMES))
    assert _names(MLClient.from_config(object(), path=short_folder)) == ("s", "g", "w")
    assert not (short_folder / "server.json").exists(), "a constructor starts nothing"


def test_a_script_is_sent_to_a_server_by_its_environment(monkeypatch):
    monkeypatch.setenv("MODELPORT_BACKEND", "https://modelport.example")
    with pytest.raises(ValidationException, match="MODELPORT_TOKEN must have its token"):
        MLClient(object(), "s", "g", "w")
    monkeypatch.setenv("MODELPORT_TOKEN", "secret")
    transport = MLClient(object(), "s", "g", "w", read_timeout=7)._service.transport
    assert (transport._base_url, transport.options.read_timeout) == ("https://modelport.example", 7)
    assert transport._signer.sign("GET", "https://modelport.example/x", "service") == {"Authorization": "Bearer secret"}
    transport.close()


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("podman", ValidationException, "MODELPORT_BACKEND is 'podman': it can be process, docker, azure"),
        ("proces", ValidationException, "it can be process, docker, azure or the URL"),
    ],
)
def test_an_environment_that_names_no_backend_is_told(monkeypatch, said, kind, told):
    monkeypatch.setenv("MODELPORT_BACKEND", said)
    with pytest.raises(kind, match=told):
        MLClient(object(), "s", "g", "w")


def test_azure_is_azure_by_its_name_too(monkeypatch):
    monkeypatch.setenv("MODELPORT_BACKEND", "azure")
    with pytest.raises(ValidationException, match="MLClient needs subscription_id"):
        MLClient(object())
