"""Flags, variables and the configuration file: who wins, and how what cannot be understood is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelport_scoring.configuration import read_settings
from modelport_scoring.settings import DECLARED, Settings, SettingsError

README = Path(__file__).parents[2] / "sdk" / "modelport_scoring" / "README.md"
KEY = "00000000-0000-4000-8000-000000000000"


def table():
    """The settings as the README has them."""
    rows = [("flag", "variable", "what", "default", "purpose"), ("---",) * 5]
    for each in DECLARED.values():
        name = f"`{each.shown}`" if each.shown and " " not in each.shown else each.shown
        variable = f"`{each.variable}`" if each.variable else ""
        rows.append((f"`{each.flag}`" if each.flag else "", variable, each.kind.name, name, each.purpose))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_setting_is_in_the_readme_as_it_is_declared():
    assert table() in README.read_text(), table()


def test_every_setting_has_a_variable_or_a_flag_of_its_own():
    for names in ([d.variable for d in DECLARED.values()], [d.flag for d in DECLARED.values()]):
        said = [name for name in names if name]
        assert len(said) == len(set(said))
    assert all(declared.variable or declared.flag for declared in DECLARED.values())


def test_without_anything_said_azure_s_defaults_hold(root):
    settings = read_settings([], {})
    assert settings == Settings(app_root=root)
    assert (settings.port, settings.worker_count, settings.worker_timeout, settings.health_port) == (5001, 1, 300, None)
    assert (settings.log_level, settings.version_header, settings.entry_script) == ("INFO", True, "main.py")


def test_all_of_azure_s_flags_are_understood(root):
    (root / "c.json").write_text("{}")
    settings = read_settings(
        [
            *("--entry_script", "score.py", "--model_dir", "m", "--port", "81", "--health_port", "82"),
            *("--worker_count", "3", "--appinsights_instrumentation_key", KEY),
            *("--access_control_allow_origins", "http://a, http://b", "--config_file", "c.json"),
        ],
        {},
    )
    assert (settings.entry_script, settings.model_dir, settings.port, settings.health_port) == ("score.py", "m", 81, 82)
    assert (settings.worker_count, settings.cors_origins) == (3, "http://a, http://b")
    assert (settings.app_insights, settings.app_insights_key) == (True, KEY)
    assert settings.config_file == root / "c.json"
    assert KEY not in repr(settings)


def test_a_flag_wins_over_its_variable_and_that_over_the_file(root):
    said = {"WORKER_COUNT": 2, "SCORING_TIMEOUT_MS": 2, "SERVICE_NAME": "2", "WORKER_PRELOAD": True, "SERVER_PORT": 2}
    (root / "config.json").write_text(json.dumps(said))
    settings = read_settings(["--worker_count", "4"], {"WORKER_COUNT": "3", "SERVICE_NAME": "3", "SERVER_PORT": ""})
    assert (settings.worker_count, settings.service_name, settings.scoring_timeout_ms) == (4, "3", 2)
    assert (settings.worker_preload, settings.port) == (True, 2)
    assert settings.warnings == ()


def test_the_file_is_looked_for_in_the_app_root_and_then_beside_the_script(root):
    (root / "app" / "code").mkdir(parents=True)
    where = {"AML_APP_ROOT": str(root / "app"), "AZUREML_ENTRY_SCRIPT": "code/score.py"}
    (root / "app" / "code" / "config.json").write_text('{"SERVICE_NAME": "beside"}')
    assert read_settings([], where).service_name == "beside"
    (root / "app" / "config.json").touch()  # an empty one is none, as in Azure
    assert read_settings([], where).service_name == "beside"
    (root / "app" / "config.json").write_text('{"SERVICE_NAME": "root"}')
    assert read_settings([], where).service_name == "root"
    (root / "own.json").write_text('{"SERVICE_NAME": "own"}')
    assert read_settings([], {**where, "AZUREML_CONFIG_FILE": str(root / "own.json")}).service_name == "own"


def test_unknown_keys_of_the_file_and_what_does_nothing_are_warned_about(root):
    said = {"hidden_size": 7, "WORKSPACE_NAME": "w", "AML_MODEL_DC_STORAGE_ENABLED": True}
    (root / "config.json").write_text(json.dumps(said))
    first, second = read_settings([], {}).warnings
    assert first == f"Keys of {root / 'config.json'} that are no settings: hidden_size."
    assert second.startswith("AML_MODEL_DC_STORAGE_ENABLED does nothing here")


def test_a_script_named_by_a_flag_is_looked_for_in_the_working_directory_first(root):
    (root / "app").mkdir()
    (root / "app" / "score.py").touch()
    where = {"AML_APP_ROOT": str(root / "app")}
    assert read_settings(["--entry_script", "score.py"], where).entry_script == "score.py"
    assert read_settings(["--entry_script", "app/score.py"], where).entry_script == "score.py"
    (root / "score.py").touch()
    assert read_settings(["--entry_script", "score.py"], where).entry_script == str(root / "score.py")
    assert read_settings([], {**where, "AZUREML_ENTRY_SCRIPT": "score.py"}).entry_script == "score.py"


@pytest.mark.parametrize(
    ("flags", "variables", "port"),
    [
        ([], {"HEALTH_PORT": "82"}, None),
        ([], {"SEPERATE_HEALTH_ENDPOINT": "true"}, 5000),
        ([], {"SEPERATE_HEALTH_ENDPOINT": "true", "HEALTH_PORT": "82"}, 82),
        (["--health_port", "82"], {}, 82),
        (["--health_port", "81", "--port", "81"], {}, None),
        (["--health_port", "5001", "--uds", "s"], {}, 5001),
    ],
)
def test_probes_have_a_port_of_their_own_only_where_it_is_asked_for(root, flags, variables, port):
    assert read_settings(flags, variables).health_port == port


@pytest.mark.parametrize(
    ("flags", "address"),
    [([], ""), (["--debug"], "127.0.0.1:5678"), (["--debug", "81"], "127.0.0.1:81"), (["--debug", "h:0"], "h:0")],
)
def test_a_debugger_s_address_may_be_left_out_in_part_or_whole(root, flags, address):
    assert read_settings(flags, {}).debug == address


@pytest.mark.parametrize(
    ("flags", "variables", "sentence"),
    [
        (["--port", "99999"], {}, "--port is '99999': it must be a port from 1 to 65535."),
        (["--worker_count", "0"], {}, "--worker_count is '0': it must be a whole number above 0."),
        (["--debug", "here"], {}, "--debug is 'here': it must be a port, or host:port."),
        ([], {"SCORING_TIMEOUT_MS": "1.5"}, "SCORING_TIMEOUT_MS is '1.5': it must be a whole number above 0."),
        ([], {"MODELPORT_GRACE_SECONDS": "inf"}, "MODELPORT_GRACE_SECONDS is 'inf': it must be a number above 0."),
        ([], {"WORKER_PRELOAD": "maybe"}, "WORKER_PRELOAD is 'maybe': it must be true or false."),
        (
            [],
            {"AZUREML_LOG_LEVEL": "loud"},
            "AZUREML_LOG_LEVEL is 'loud': it must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL.",
        ),
        (["--config_file", "none.json"], {}, "The configuration file {root}/none.json does not exist."),
        (
            ["--config_file", "list.json"],
            {},
            "The configuration file {root}/list.json is not a JSON object, such as {{}}.",
        ),
        (
            ["--config_file", "half.json"],
            {},
            "The configuration file {root}/half.json is not JSON: Expecting value: line 1 column 2 (char 1).",
        ),
        (
            ["--config_file", "deep.json"],
            {},
            "WORKER_COUNT in {root}/deep.json is [1]: it must be text, a number, true or false.",
        ),
        (
            ["--config_file", "port.json"],
            {},
            "SERVER_PORT in {root}/port.json is '0': it must be a port from 1 to 65535.",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(root, flags, variables, sentence):
    written = {"list": "[]", "half": "[", "deep": '{"WORKER_COUNT": [1]}', "port": '{"SERVER_PORT": 0}'}
    for name, text in written.items():
        (root / f"{name}.json").write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_settings(flags, variables)
    assert str(refused.value) == sentence.format(root=root)


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "on"])
def test_a_switch_understands_what_azure_s_does(root, word):
    assert read_settings([], {"WORKER_PRELOAD": word}).worker_preload is True
    assert read_settings([], {"SERVER_VERSION_LOG_RESPONSE_ENABLED": word}).version_header is True


def test_the_configuration_file_s_settings_reach_a_server(serve):
    served = serve(
        "import os\ndef init(): pass\ndef run(data): return [os.environ[n] for n in "
        "('AML_APP_ROOT', 'AZUREML_ENTRY_SCRIPT', 'AZUREML_MODEL_DIR')]\n",
        files={
            "config.json": json.dumps(
                {
                    "SERVER_VERSION_LOG_RESPONSE_ENABLED": False,
                    "AZUREML_MODEL_DIR": "/m",
                    "SERVICE_PATH_PREFIX": "/a/b/",
                }
            )
        },
    )
    answer = served.score(1)
    assert json.loads(answer.body) == [str(served.folder / "app"), "score.py", "/m"]
    assert "x-ms-server-version" not in answer.headers
    assert served.request("POST", "/a/b/score", "1").body == answer.body
    assert served.request("GET", "/a/b/").body == b"Healthy"
    assert served.request("GET", "/a/b").status == 404
    for version in ("2", "3"):
        document = json.loads(served.request("GET", f"/a/b/swagger.json?version={version}").body)
        assert list(document["paths"]) == ["/a/b/", "/a/b/score", "/a/b/swagger.json"]


def test_imports_are_looked_for_in_the_source_directory_too(serve):
    served = serve(
        "import below\ndef init(): pass\ndef run(data): return below.X\n",
        files={"src/below.py": "X = 7\n"},
        AZUREML_SOURCE_DIRECTORY="src",
    )
    assert served.score(1).body == b"7"


def test_nothing_said_in_a_variable_that_is_empty(root):
    empty = {declared.variable: "" for declared in DECLARED.values() if declared.variable}
    assert read_settings([], {**os.environ, **empty}) == Settings(app_root=root)
