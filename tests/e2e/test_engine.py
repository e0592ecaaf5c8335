"""Docker's engine killed and started again under a load: endpoints come back by themselves."""

import gc
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from tests.e2e.conftest import BASE, DockerSite, wait_until

from modelport.backends import open_backend
from modelport.backends.base import Probe, Revision
from modelport.builds.base import Wanted
from modelport.builds.image import ImageBuilder
from modelport.errors import DockerEngineNotAvailableError
from modelport.testing import environments_folder


class Engine:
    """
    An engine of the test's own, which it may kill: with images of the machine's, and nothing else of it.

    It has a network namespace to itself: two engines in one fight over bridges and firewall rules.
    """

    def __init__(self, folder):
        self.folder, self._name = folder, f"mp-{os.getpid()}"
        self._net = f"10.{64 + os.getpid() % 128}"  # other runs on this machine have others
        self.host = f"unix://{folder}/s"
        self._log = (folder / "log").open("ab")
        self._process = None

    def open(self):
        """Make the way to its containers."""
        way = f"{self._name}-way"[:15]
        for line in (
            f"netns add {self._name}",
            f"link add {way} type veth peer name eth0 netns {self._name}",
            f"addr add {self._net}.254.1/30 dev {way}",
            f"link set {way} up",
            f"-n {self._name} addr add {self._net}.254.2/30 dev eth0",
            f"-n {self._name} link set eth0 up",
            f"-n {self._name} link set lo up",
            f"route add {self._net}.0.0/17 via {self._net}.254.2",
        ):
            subprocess.run(["ip", *line.split()], check=True)

    def start(self):
        here = self.folder
        options = ["--data-root", here / "data", "--exec-root", here / "exec", "--pidfile", here / "pid"]
        options += ["-H", self.host]
        options += [
            "--iptables=false",
            "--default-address-pool",
            f"base={self._net}.0.0/17,size=24",
            "--bip",
            f"{self._net}.253.1/24",
        ]
        # Not `ip netns exec`, which hides the control groups.
        self._command = ["nsenter", f"--net=/run/netns/{self._name}", "dockerd", *options]
        wait_until(self.answers, "the engine answers", 120)

    def answers(self):
        """Whether it does; one that ended, since what was killed is in its way still, is started again."""
        if self._process is None or self._process.poll() is not None:
            (self.folder / "pid").unlink(missing_ok=True)
            self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, start_new_session=True)
        return subprocess.run(["docker", "-H", self.host, "version"], capture_output=True, check=False).returncode == 0

    def kill(self):
        pid = self.folder / "exec" / "containerd" / "containerd.pid"
        below = [psutil.Process(int(pid.read_text()))] if pid.exists() else []
        self._process.kill()
        self._process.wait()
        for each in below:  # it goes with its parent
            wait_until(lambda each=each: not each.is_running(), "containerd ends")

    def take(self, images):
        save = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        with save:
            subprocess.run(["docker", "-H", self.host, "load", "-q"], stdin=save.stdout, check=True)
        assert save.returncode == 0

    def close(self):
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        subprocess.run(["ip", "netns", "del", self._name], check=False)  # with it goes the way
        self._log.close()


@pytest.fixture
def engine(docker_engine):
    if os.getuid() != 0 or None in (shutil.which("dockerd"), shutil.which("ip")):
        pytest.skip("An engine of the test's own takes root, dockerd and iproute2.")
    built = ImageBuilder(environments_folder() / "images").build(Wanted(image=BASE), print)
    folder = Path(tempfile.mkdtemp(prefix="mp-docker-", dir="/var/tmp"))
    made = Engine(folder)
    try:
        made.open()
        made.start()
        made.take([BASE, built.image])
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(engine, runtimes, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    site = DockerSite()
    runtimes += [str(site.runtime), f"serve --home {site.home}"]
    yield site
    site.close()


def test_endpoints_come_back_by_themselves_after_the_engine_was_killed(site, engine):
    site.create()
    site.deploy("blue-1", 2, busy=0.002)
    site.route(blue=100)
    with site.load() as load:
        load.more(200)
        before = set(site.replicas())
        engine.kill()
        load.more(400)  # its containers serve on, and nobody knows better
        assert load.failures() == []
        began = time.monotonic()
        engine.start()  # it ends the containers that it finds running
        new = wait_until(lambda: len(now := set(site.replicas()) - before) == 2 and now, "two new replicas", 60)
        wait_until(lambda: {each.pid for each in load.seen()[-50:]} == new, "both answer")
        back = time.monotonic()
        load.more(500)
    assert [each for each in load.failures() if not began <= each.done <= back] == []
    answers = [each for each in load.seen() if each.sent > back]
    assert len(answers) >= 500
    assert {each.pid for each in answers} == new
    site.deploy("blue-2", 1)
    assert site.client.online_endpoints.invoke("tides", input_data={"n": 5}).json()["model"] == "blue-2"


def test_while_the_engine_is_away_what_needs_it_says_so(site, engine):
    site.create()
    site.deploy("blue-1", 1)
    site.route(blue=100)
    engine.kill()
    assert site.client.online_endpoints.invoke("tides", input_data={"n": 1}).json()["model"] == "blue-1"
    with pytest.raises(DockerEngineNotAvailableError, match="start it, or deploy to processes"):
        site.client.online_deployments.get_logs("blue", "tides", 10)
    engine.start()
    wait_until(site.replicas, "the replica is back", 60)


@pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")  # docker-py's, where nobody listens
def test_what_is_removed_while_the_engine_is_away_is_given_up_and_found_again(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    monkeypatch.setattr("modelport.backends.container._GIVE_UP", 2.0)
    builder = ImageBuilder(environments_folder() / "images")
    built = builder.build(Wanted(image=BASE), print)
    builder.close()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def init(): pass\ndef run(raw): return 1\n")
    blue = Revision(
        id="tides-blue-1",
        endpoint="tides",
        deployment="blue",
        instances=1,
        image=built.image,
        python=built.python,
        app_root=str(tmp_path / "code"),
        entry_script="score.py",
        readiness=Probe(initial_delay=0, period=0.1, failure_threshold=600),
    )
    backend = open_backend("docker", folder=tmp_path / "run")
    try:
        backend.apply(blue)
        wait_until(lambda: [each.state for each in backend.replicas(blue.id)] == ["ready"], "it is ready")
        engine.kill()
        backend.remove(blue.id)
    finally:
        backend.close()
        gc.collect()
    engine.start()
    again = open_backend("docker", folder=tmp_path / "run")
    try:
        assert again.revisions() == {blue.id}, "by its labels"
        again.remove(blue.id)
        assert again.revisions() == set()
    finally:
        again.close()
