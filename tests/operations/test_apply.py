"""`ml_client.apply`: several documents, checked whole, brought about in order, and left alone when they are there."""

import io
from pathlib import Path

import pytest

from modelport.entities import Environment, ManagedOnlineDeployment, ManagedOnlineEndpoint, Model
from modelport.errors import ResourceNotFoundError, UserScriptInitFailed, ValidationException

SCORE = "def init(): pass\ndef run(x): return x\n"
PROBE = "{initial_delay: 2, period: 1, failure_threshold: 58}"


def deployment(name, endpoint="tides", more=""):
    return (
        f"---\nname: {name}\nendpoint_name: {endpoint}\ncode_configuration: {{code: code, scoring_script: score.py}}\n"
        f"instance_count: 1\nreadiness_probe: {PROBE}\nliveness_probe: {PROBE}\n{more}"
    )


ENDPOINT = "name: tides\nauth_mode: key\ntraffic: {blue: 90, green: 10}\n"
MODEL = "---\n$schema: x/model.schema.json\nname: net\npath: net.bin\n"
TIDES = ENDPOINT + deployment("blue", more="model: azureml:net@latest\n") + deployment("green") + MODEL


@pytest.fixture
def write(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text(SCORE)
    (tmp_path / "net.bin").write_bytes(b"weights")

    def file(text, name="tides.yml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return file


def refused(client, source):
    with pytest.raises(ValidationException) as caught:
        client.apply(source)
    assert list(client.online_endpoints.list()) == []
    assert list(client.models.list()) == []
    return caught.value.message


def test_one_file_brings_about_everything_and_a_second_time_nothing(ml_client, write):
    path = write(TIDES)
    first = ml_client.apply(path)
    assert [type(each) for each in first] == [
        ManagedOnlineEndpoint, ManagedOnlineDeployment, ManagedOnlineDeployment, Model,
    ]  # fmt: skip
    assert repr(first).splitlines() == [
        "created    Endpoint 'tides'",
        "created    Deployment 'blue' of 'tides'",
        "created    Deployment 'green' of 'tides'",
        "created    Model 'net', version 1",
    ]
    assert ml_client.online_endpoints.get("tides").traffic == {"blue": 90, "green": 10}
    assert first[1].model.endswith("/models/net/versions/1")
    assert ml_client.online_endpoints.invoke("tides", input_data={"a": 1}).status_code == 200

    def stamps():
        things = [ml_client.online_endpoints.get("tides"), *ml_client.online_deployments.list("tides")]
        assert all(each.system_data["lastModifiedAt"] for each in things)
        return [each.system_data for each in things]

    before = stamps()
    again = ml_client.apply(str(path))
    assert repr(again) == "Nothing to do: all of it is as it should be."
    assert not again.is_changed
    assert {step.outcome for step in again.steps} == {"unchanged"}
    assert stamps() == before

    changed = ml_client.apply(write(TIDES.replace("blue: 90, green: 10", "blue: 50, green: 50")))
    assert [step.outcome for step in changed.steps] == ["changed", "unchanged", "unchanged", "unchanged"]
    assert changed[0].traffic == {"blue": 50, "green": 50}

    said = "instance_count: 1\n"
    changed = ml_client.apply(write(TIDES.replace(said, said + "tags: {team: harbour}\n", 1)))
    assert [step.outcome for step in changed.steps] == ["changed", "changed", "unchanged", "unchanged"]
    assert ml_client.online_deployments.get("blue", "tides").tags == {"team": "harbour"}


def test_a_rehearsal_says_what_would_be_done_and_sends_nothing(ml_client, write):
    path = write(TIDES)
    told = ml_client.apply(path, dry_run=True)
    assert [step.outcome for step in told.steps] == ["created"] * 4
    assert "Deployment 'blue' of 'tides' would be created." in repr(told)
    assert "traffic: nothing → blue 90, green 10" in repr(told)
    assert list(ml_client.online_endpoints.list()) == list(ml_client.models.list()) == []
    ml_client.apply(path)
    assert repr(ml_client.apply(path, dry_run=True)) == "Nothing to do: all of it is as it should be."
    told = ml_client.apply(write(TIDES.replace("instance_count: 1", "instance_count: 2", 1)), dry_run=True)
    assert [step.outcome for step in told.steps] == ["unchanged", "changed", "unchanged", "unchanged"]
    assert "instance_count: 1 → 2  [scale]" in repr(told)
    assert ml_client.online_deployments.get("blue", "tides").instance_count == 1


def test_a_run_that_failed_half_way_says_so_and_goes_on_when_repeated(ml_client, write, tmp_path):
    (tmp_path / "bad").mkdir()
    script = tmp_path / "bad" / "score.py"
    script.write_text("def init(): raise ValueError('no weights')\ndef run(x): return x\n")
    path = write(TIDES.replace("code: code", "code: bad", 2).replace("code: bad", "code: code", 1))
    with pytest.raises(UserScriptInitFailed) as caught:
        ml_client.apply(path)
    assert "no weights" in caught.value.message
    assert caught.value.message.splitlines()[-6:] == [
        "  created    Endpoint 'tides'",
        "  created    Deployment 'blue' of 'tides'",
        "  created    Model 'net', version 1",
        "  not done   Deployment 'green' of 'tides'",
        "  not done   traffic of Endpoint 'tides'",
        "Mend it and apply again: what is done stays.",
    ]
    script.write_text(SCORE)
    done = ml_client.apply(path)
    assert [step.outcome for step in done.steps] == ["changed", "unchanged", "changed", "unchanged"]
    assert ml_client.online_endpoints.get("tides").traffic == {"blue": 90, "green": 10}


def test_nothing_is_sent_when_any_document_is_wrong(ml_client, write):
    text = ENDPOINT.replace("auth_mode", "auth_mod") + deployment("blue", more="instance_cont: 2\n") + MODEL
    assert refused(ml_client, write(text)).splitlines() == [
        f"{write(text)}:",
        "  line 2: auth_mod: Unknown field. Did you mean 'auth_mode'?",
        f"{write(text)}:",
        "  line 11: instance_cont: Unknown field. Did you mean 'instance_count'?",
    ]


def test_documents_are_checked_against_each_other_and_the_workspace(ml_client, write):
    path = write(
        "name: tides\nauth_mode: key\ntraffic:\n  blue: 90\n  gren: 10\n"
        + deployment("blue")
        + deployment("green", "tidse")
        + deployment("blue")
        + MODEL.replace("net.bin", "absent.bin")
    )
    told = refused(ml_client, path)
    first = path.read_text().index("name: blue")
    line = path.read_text()[:first].count("\n") + 1
    assert told.splitlines() == [
        f"{path}: line 5: traffic.gren: Endpoint 'tides' has no deployment 'gren', here or in the workspace (blue).",
        f"{path}: line {line + 8}: endpoint_name: There is no endpoint 'tidse', here or in the workspace.",
        f"{path}: line {line + 14}: name: Deployment 'blue' of 'tides' stands in line {line} of {path} too.",
        f"{path}: line {line + 23}: path: '{path.parent}/absent.bin' does not exist.",
    ]


def test_a_faulty_document_hides_nothing_of_the_others(ml_client, write):
    text = "name: tides\nauth_mode: kee\n---\njust text\n" + deployment("blue").replace("code: code", "code: cod")
    path = write(text)
    told = refused(ml_client, path).splitlines()
    assert told[:3] == [
        f"{path}:",
        "  line 2: auth_mode: 'kee' is not one of key, aml_token, aad_token. Did you mean 'key'?",
        f"{path}: line 4: A document is a mapping of fields, and this one is 'just text'.",
    ]
    assert "code_configuration.code: The code folder '" in told[3]
    assert len(told) == 4
    broken = write("name: [", "broken.yml")
    told = refused(ml_client, [broken, path]).splitlines()
    assert f"'{broken}' is not YAML" in told[0]
    assert told[1] == f"{path}:"


def test_assets_that_nobody_has_are_found_before_anything_is_sent(ml_client, write):
    text = ENDPOINT + "---\nname: blue\nendpoint_name: tides\nmodel: MODEL\ncode_configuration: "
    text += "{code: code, scoring_script: score.py}\nenvironment: azureml:nothing@latest\n"
    path = write(text.replace("MODEL", "azureml:net:1"))
    told = refused(ml_client, path)
    assert "model: There is no 'azureml:net:1', here or in the workspace." in told
    assert "environment: There is no 'azureml:nothing@latest', here or in the workspace." in told
    assert "names no version" in refused(ml_client, write(text.replace("MODEL", "azureml:net")))
    beside = write(text.replace("MODEL", "azureml:net:1") + MODEL)
    assert "azureml:net" not in refused(ml_client, beside), "the file brings it along"


def test_what_processes_cannot_do_is_found_before_anything_is_sent(ml_client, write):
    told = refused(ml_client, write("name: tides\nauth_mode: key\ncompute: azureml:harbour\n"))
    assert "compute: Endpoint 'tides' names the cluster" in told


def test_a_script_is_told_of_without_a_keyword_that_apply_does_not_have(ml_client, write, tmp_path):
    (tmp_path / "code" / "score.py").write_text("def run(x): return x\n")
    told = refused(ml_client, write(ENDPOINT + deployment("blue")))
    assert "has no init() function" in told
    assert "skip_script_validation" not in told


def test_files_that_documents_name_are_looked_for_before_anything_is_sent(ml_client, write):
    told = refused(
        ml_client, write(ENDPOINT + deployment("blue").replace("code: code", "code: cod") + deployment("green"))
    )
    assert "line 7: code_configuration.code: The code folder '" in told
    assert "cod' does not exist" in told


def test_a_document_that_does_not_tell_its_kind_is_asked_for_its_schema(ml_client, write):
    told = refused(ml_client, write("name: tides\n---\nname: net\npath: net.bin\n"))
    assert "line 1: It does not tell what it describes: add $schema" in told
    assert "line 3: It does not tell what it describes: add $schema" in told


def test_a_folder_or_several_files_are_one_application(ml_client, write, tmp_path):
    write("$schema: schemas/managedOnlineEndpoint.schema.json\nname: tides\n", "b.yml")
    write("name: env\nimage: any\nconda_file: conda.yml\n", "a.yaml")
    write("dependencies: [python]\n", "conda.yml")
    write("not YAML: [", "notes.txt")
    applied = ml_client.apply(tmp_path)
    assert [type(each) for each in applied] == [Environment, ManagedOnlineEndpoint]
    several = ml_client.apply([tmp_path / "b.yml", str(tmp_path / "a.yaml")])
    assert [type(each) for each in several] == [ManagedOnlineEndpoint, Environment]
    assert not several.is_changed


def test_an_open_file_is_taken(ml_client):
    applied = ml_client.apply(io.StringIO("name: tides\nauth_mode: aml_token\n"))
    assert ml_client.online_endpoints.get("tides").auth_mode == "aml_token"
    assert len(applied) == 1


def test_a_new_version_of_an_asset_is_told_as_created(ml_client, write, tmp_path):
    path = write(MODEL)
    assert [str(step) for step in ml_client.apply(path).steps] == ["created    Model 'net', version 1"]
    Path(tmp_path / "net.bin").write_bytes(b"other weights")
    assert [str(step) for step in ml_client.apply(path).steps] == ["created    Model 'net', version 2"]
    named = ml_client.apply(write(MODEL + "version: 2\ntags: {a: b}\n"))
    assert [step.outcome for step in named.steps] == ["changed"]


def test_an_empty_folder_and_a_file_that_is_absent_are_refused(ml_client, tmp_path):
    assert "Target yaml file is empty" in refused(ml_client, tmp_path)
    assert "cannot be read: No such file" in refused(ml_client, tmp_path / "absent.yml")


def test_assets_inside_a_deployment_get_no_new_version_when_nothing_changed(ml_client, write, tmp_path):
    conda = "{dependencies: [python]}"
    inline = f"model: {{name: net, path: net.bin}}\nenvironment: {{name: env, image: any, conda_file: {conda}}}\n"
    path = write("name: tides\nauth_mode: key\n" + deployment("blue", more=inline))
    assert [step.outcome for step in ml_client.apply(path).steps] == ["created", "created"]
    assert not ml_client.apply(path).is_changed
    assert [each.version for each in ml_client.models.list("net")] == ["1"]
    (tmp_path / "net.bin").write_bytes(b"other weights")
    assert [step.outcome for step in ml_client.apply(path).steps] == ["unchanged", "changed"]
    assert [each.version for each in ml_client.models.list("net")] == ["1", "2"]


def test_data_is_registered_once(ml_client, write, tmp_path):
    (tmp_path / "rows.csv").write_text("1,2")
    path = write("name: rows\ntype: uri_file\npath: rows.csv\n")
    assert repr(ml_client.apply(path, dry_run=True)).startswith("Data asset 'rows' would be created.")
    assert [str(step) for step in ml_client.apply(path).steps] == ["created    Data asset 'rows', version 1"]
    assert not ml_client.apply(path, dry_run=True).is_changed
    assert not ml_client.apply(path).is_changed
    assert [each.version for each in ml_client.data.list("rows")] == ["1"]


def test_traffic_that_is_not_said_stays(ml_client, write):
    ml_client.apply(write(TIDES))
    quiet = TIDES.replace("traffic: {blue: 90, green: 10}\n", "description: Tides\n")
    assert ml_client.apply(write(quiet)).steps[0].outcome == "changed"
    assert ml_client.online_endpoints.get("tides").traffic == {"blue": 90, "green": 10}
    with pytest.raises(ResourceNotFoundError):
        ml_client.online_deployments.get("red", "tides")


def test_a_service_like_azures_is_asked_for_what_is_missing_only(azure_client, azure_stub, write):
    client, path = azure_client(), write(TIDES)
    assert [step.outcome for step in client.apply(path).steps] == ["created"] * 4
    assert client.online_endpoints.get("tides").traffic == {"blue": 90, "green": 10}
    before = len(azure_stub.seen)
    assert repr(client.apply(path)) == "Nothing to do: all of it is as it should be."
    assert {each.method for each in azure_stub.seen[before:]} <= {"GET", "HEAD", "POST"}
