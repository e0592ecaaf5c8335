"""The server on its own: started by a person, who reads what it says."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from .conftest import SDK

SCRIPT = "def init(): pass\ndef run(data): return 1\n"


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_it_says_what_it_is_told_and_where_it_answers(start):
    port = free_port()
    served = start(SCRIPT, "--port", str(port), "--model_dir", "/models/1", AML_APP_INSIGHTS_KEY="secret")

    def answers() -> bool:
        assert served.process.poll() is None, served.log
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    served.wait_for(answers)
    assert "Server Settings\n---------------\n" in served.log
    for line in (
        "Entry Script Name: score.py",
        "Model Directory: /models/1",
        "Config File: None",
        "Worker Count: 1",
        f"Server Port: {port}",
        "Application Insights Key: provided",
        f"Liveness Probe: GET   http://127.0.0.1:{port}/",
        f"Score:          POST  http://127.0.0.1:{port}/score",
    ):
        assert f"\n{line}\n" in served.log
    assert "secret" not in served.log


def test_the_page_s_own_example_works(serve):
    served = serve(SCRIPT)
    example = served.log.partition("Try it: ")[2].partition("\n")[0]
    ran = subprocess.run(
        example.replace("curl ", "curl -s ", 1), shell=True, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "1"


def test_what_is_not_installed_is_told_with_what_installs_it():
    without_packages = [sys.executable, "-S", "-m", "modelport_scoring", "--entry_script", "score.py"]
    ran = subprocess.run(without_packages, cwd=SDK, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("modelport-scoring needs granian: pip install 'modelport[scoring]', or -r ")
    assert Path(ran.stderr.rpartition(" -r ")[2].strip()).is_file()


def test_a_deployment_s_log_has_no_page(serve):
    assert "Server Settings" not in serve(SCRIPT, MODELPORT_DEPLOYMENT="blue").log


@pytest.mark.parametrize("flag", ["--port", "--health_port"])
def test_a_port_that_is_taken_is_told_before_the_script_is_loaded(start, taken, flag):
    ports = {"--port": free_port(), flag: taken}
    served = start("print('LOADED')\n", *(word for name, port in ports.items() for word in (name, str(port))))
    assert served.process.wait(timeout=20) == 2
    expected = f"Cannot listen on 127.0.0.1:{taken}: Address already in use. Choose another one with {flag}.\n"
    assert served.log == f"modelport-scoring: {expected}"


@pytest.mark.parametrize(
    ("flags", "variables", "status", "sentence"),
    [
        (["--entry_script", "nope.py"], {}, 3, "The scoring script nope.py is not in {app}."),
        ([], {"AML_APP_ROOT": "/nope"}, 3, "The script's folder /nope does not exist."),
        (["--config_file", "app/score.py"], {}, 2, "The configuration file {app}/score.py is not JSON: "),
        (["--host", "nowhere.invalid", "--port", "5001"], {}, 2, "Cannot listen on nowhere.invalid:5001: "),
        (
            ["--uds", "no/such/s"],
            {},
            2,
            "--uds {folder}/no/such/s cannot be made: the folder {folder}/no/such does not",
        ),
        (["--uds", "x" * 120], {}, 2, "is longer than the 103 bytes that a socket's path may have."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(start, flags, variables, status, sentence):
    served = start(SCRIPT, *(flags or ["--uds", "s"]), **variables)
    assert served.process.wait(timeout=20) == status
    expected = sentence.format(app=served.folder / "app", folder=served.folder)
    assert served.log.count(expected) == 1, served.log
    assert "Traceback" not in served.log


def test_help_names_every_flag_and_an_unknown_one_is_refused():
    run = [sys.executable, "-m", "modelport_scoring"]
    told = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SDK)})
    for flag in ("--entry_script SCRIPT", "--debug [HOST:PORT]", "--worker_count COUNT", "--config_file FILE"):
        assert flag in told.stdout
    refused = subprocess.run(
        [*run, "--nope"], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SDK)}
    )
    assert refused.returncode == 2
    assert "unrecognized arguments: --nope" in refused.stderr


def test_the_command_is_this_program():
    named = (SDK.parent / "setup.cfg").read_text()
    assert "modelport-scoring = modelport_scoring.__main__:command\n" in named
    command = [each for each in entry_points(group="console_scripts") if each.name == "modelport-scoring"]
    assert all(each.value == "modelport_scoring.__main__:command" for each in command)


def test_a_debugger_that_waits_is_gone_to(start):
    """Azure's AZUREML_DEBUG_PORT, with a listener that only takes the connection: the server comes, and waits."""
    pytest.importorskip("debugpy")
    with socket.create_server(("127.0.0.1", 0)) as editor:
        editor.settimeout(20)
        served = start(SCRIPT, "--uds", "s", AZUREML_DEBUG_PORT=str(editor.getsockname()[1]))
        connection, _ = editor.accept()
        with connection:
            assert served.process.poll() is None
            assert not Path(served.uds).exists()


def test_azure_s_debug_port_needs_debugpy(start, tmp_path):
    (tmp_path / "debugpy.py").write_text("raise ImportError('there is none')")
    served = start(SCRIPT, "--uds", "s", AZUREML_DEBUG_PORT="5678", PYTHONPATH=f"{tmp_path}:{SDK}")
    assert served.process.wait(timeout=20) == 2
    assert "AZUREML_DEBUG_PORT needs debugpy: there is none. Add debugpy to the environment.\n" in served.log


def test_azure_s_debug_port_needs_a_debugger_at_it(start):
    pytest.importorskip("debugpy")
    port = free_port()
    served = start(SCRIPT, "--uds", "s", AZUREML_DEBUG_PORT=str(port))
    assert served.process.wait(timeout=20) == 2
    assert f"modelport-scoring: AZUREML_DEBUG_PORT is {port}, where no debugger waits: " in served.log
