"""`modelport watch`, as people run it."""

import signal

from modelport import MLClient
from modelport.entities import ManagedOnlineEndpoint

SCRIPT = """
def init():
    {init}
def run(raw_data):
    return {answer}
"""

DEPLOYMENT = """
name: blue
endpoint_name: tides
code_configuration:
  code: code
  scoring_script: score.py
instance_count: 1
"""


def test_each_saved_change_is_told_until_it_is_stopped(home, tmp_path):
    client = MLClient.local(home=home.folder)
    client.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result()
    script = tmp_path / "code" / "score.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(init="pass", answer=1))
    (tmp_path / "blue.yml").write_text(DEPLOYMENT)
    with home.start("watch", str(tmp_path / "blue.yml")) as watching:
        try:
            assert watching.stdout.readline().startswith("tides/blue is there. Watching")
            script.write_text(SCRIPT.format(init="pass", answer=2))
            assert watching.stdout.readline().startswith("tides/blue: updated in ")
            assert client.online_endpoints.invoke("tides", deployment_name="blue", input_data={}).json() == 2
            script.write_text(SCRIPT.format(init="raise ValueError('no tide table')", answer=3))
            told = watching.stdout.readline()
            assert told.startswith("tides/blue: the code of before goes on. ")
            assert "no tide table" in told
            watching.send_signal(signal.SIGINT)
            assert watching.stdout.read().endswith("tides/blue stays as it is.\n")
            assert watching.wait(20) == 0
        finally:
            watching.kill()
    assert client.online_endpoints.invoke("tides", deployment_name="blue", input_data={}).json() == 2


def test_what_cannot_be_deployed_is_told_and_the_command_fails(home, tmp_path):
    (tmp_path / "blue.yml").write_text(DEPLOYMENT)
    done = home.run("watch", str(tmp_path / "blue.yml"))
    assert done.returncode == 1
    assert "The code folder" in done.stderr
