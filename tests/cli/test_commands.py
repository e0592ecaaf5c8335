"""The commands as people run them."""

import json
import os
import signal

import modelport
from modelport import MLClient
from modelport.entities import ManagedOnlineEndpoint


def test_the_version_is_told(home):
    assert home.run("--version").stdout == f"modelport, version {modelport.__version__}\n"


def test_help_names_every_command(home):
    told = home.run("--help").stdout
    assert all(f"  {command} " in told for command in ("up", "down", "status", "quickstart", "apply", "schema", "env"))


def test_status_without_a_server_starts_none(home):
    assert home.run("status").stdout == "Modelport is not up.\n"
    said = json.loads(home.run("status", "--json").stdout)
    assert said == {"up": False, "home": str(home.folder), "backend": "process", "left_running": []}
    assert home.processes() == {}


def test_down_without_a_server_is_fine(home):
    done = home.run("down")
    assert (done.returncode, done.stdout) == (0, "Modelport is not up.\n")


def test_up_starts_one_server_and_down_ends_it(home):
    first, second = home.run("up"), home.run("up")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert json.loads(home.run("status", "--json").stdout)["up"] is True
    assert home.run("down").stdout == "Modelport is down.\n"
    assert home.is_quiet(), home.processes()
    assert home.run("status").stdout == "Modelport is not up.\n"


def test_status_shows_endpoints_which_are_remembered(home):
    client = MLClient.local(home=home.folder)
    client.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result()
    assert "  tides: Succeeded  http://127.0.0.1:" in home.run("status").stdout
    home.run("down")
    home.run("up")
    (endpoint,) = json.loads(home.run("status", "--json").stdout)["endpoints"]
    assert (endpoint["name"], endpoint["state"], endpoint["deployments"]) == ("tides", "Succeeded", [])


def test_what_a_dead_server_left_is_told_and_can_be_ended(home, until):
    pid = MLClient.local(home=home.folder) and json.loads(home.run("status", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in home.processes())
    said = home.run("status").stdout
    assert "Its server died, and 1 processes serve on with nobody to restart them" in said
    assert home.run("down").stdout == "Modelport is down.\n"
    assert home.is_quiet(), home.processes()


def test_an_error_is_a_sentence(home):
    (home.folder / "file").write_text("in the way")
    done = home.run("up", "--home", str(home.folder / "file"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: The folder '{home.folder}/file' cannot be used: ")
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_refused(home):
    done = home.run("upp")
    assert done.returncode == 2
    assert "No such command 'upp'" in done.stderr
