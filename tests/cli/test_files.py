"""`modelport schema` and `modelport apply`, as people run them."""

import json

from modelport import MLClient
from modelport.schema import editors

TIDES = "name: tides\nauth_mode: key\n---\n$schema: x/model.schema.json\nname: net\npath: net.bin\n"


def test_schemas_are_written_into_a_folder(home):
    folder = home.folder / "for" / "editors"
    done = home.run("schema", "--output", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.name.removesuffix(".schema.json"): json.loads(path.read_text()) for path in folder.iterdir()}
    assert written == editors.schemas()
    assert done.stdout.splitlines() == [str(folder / f"{name}.schema.json") for name in editors.schemas()]


def test_one_schema_is_printed_and_without_a_kind_their_names_are(home):
    assert (
        json.loads(home.run("schema", "managedOnlineDeployment").stdout) == editors.schemas()["managedOnlineDeployment"]
    )
    assert home.run("schema").stdout.splitlines() == list(editors.schemas())
    done = home.run("schema", "managedOnlineDeploymnt")
    assert done.returncode == 2
    assert "'managedOnlineDeploymnt' is not one of managedOnlineEndpoint, " in done.stderr
    assert home.processes() == {}


def test_a_file_is_applied_rehearsed_and_refused(home):
    path = home.folder / "tides.yml"
    path.write_text(TIDES)
    (home.folder / "net.bin").write_bytes(b"weights")
    told = home.run("apply", "--dry-run", str(path)).stdout
    assert "Endpoint 'tides' would be created." in told
    done = home.run("apply", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["created    Endpoint 'tides'", "created    Model 'net', version 1"]
    assert done.stdout.splitlines()[2].startswith("tides: http://127.0.0.1:")
    assert home.run("apply", str(path)).stdout.splitlines()[:2] == [
        "unchanged  Endpoint 'tides'",
        "unchanged  Model 'net', version 1",
    ]
    assert [each.name for each in MLClient.local(home=home.folder).online_endpoints.list()] == ["tides"]
    path.write_text(TIDES.replace("auth_mode", "auth_mod"))
    done = home.run("apply", str(path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: {path}:",
        "  line 2: auth_mod: Unknown field. Did you mean 'auth_mode'?",
    ]
