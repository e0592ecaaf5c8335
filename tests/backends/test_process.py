import contextlib
import fcntl
import json
import os
import re
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from attrs import evolve
from tests.contracts.backend import BackendContract, ask, eventually

import modelport
from modelport import errors
from modelport.backends import open_backend
from modelport.backends import replica as replica_module
from modelport.backends.base import Probe, Revision
from modelport.backends.probes import Question, Target, connections
from modelport.backends.replica import environment

SDK = Path(modelport.__file__).parent.parent


def replicas_in(folder):
    """The live processes whose environment names the folder, children of replicas among them but those for probes."""
    psutil.process_iter.cache_clear()  # or one with the pid of another, looked at before, could not be killed
    return [
        process
        for process in psutil.process_iter(["environ", "status", "name"])
        if (process.info["environ"] or {}).get("MODELPORT_FAILURE_FILE", "").startswith(f"{folder}/")
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and process.info["name"] != "modelport-probe"
    ]


SLOW_FORK = """
import json, os, sys, time
lock, folder, environment, command = json.loads(sys.argv[1])
while open(lock).read() != str(os.getppid()):
    time.sleep(0.005)
time.sleep(0.3)  # as long as a busy machine may take from a fork to its exec
os.chdir(folder)
os.execve(command[0], command, environment)
"""


class TestProcesses(BackendContract):
    name = "process"

    @pytest.fixture
    def runtime(self, tmp_path):
        """An interpreter that finds the scoring server, as an environment's would."""
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\nPYTHONPATH="{SDK}" exec "{sys.executable}" "$@"\n')
        path.chmod(0o755)
        return {"python": str(path)}

    @pytest.fixture
    def options(self):
        folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        yield {"folder": folder / "run", "logs": folder / "logs"}
        left = replicas_in(folder)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder)
        assert left == []

    def kill(self, replica, options):
        os.kill(self.pid(replica), signal.SIGKILL)

    def freeze(self, replica, options):
        """Stop it while no request is inside: one that is stopped in run() is taken to be busy."""
        tasks = Path(f"/proc/{self.pid(replica)}/task")

        def rests():
            return all(each.read_text().rpartition(")")[2].split()[0] == "S" for each in tasks.glob("*/stat"))

        eventually(lambda: all(rests() for _ in range(20)))
        os.kill(self.pid(replica), signal.SIGSTOP)

    def thaw(self, replica, options):
        os.kill(self.pid(replica), signal.SIGCONT)

    def running(self, options):
        return len(replicas_in(options["folder"]))

    @staticmethod
    def pid(replica):
        return json.loads(Path(replica.address).with_name("replica.json").read_text())["pid"]

    def test_a_process_that_was_not_recorded_is_found_by_its_marker(self, options, revision, dead_owner, request):
        dead_owner(wanted := revision())
        [process] = replicas_in(options["folder"])
        [record] = options["folder"].glob("*/replica.json")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"pid": None, "started": None, "ready": False}))
        backend = request.getfixturevalue("backend")
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        assert ask(replica.address)["pid"] == process.pid == self.pid(replica)
        assert self.running(options) == 1

    def test_a_process_that_was_only_forked_when_its_owner_was_killed_is_waited_for(
        self, options, revision, dead_owner, request
    ):
        dead_owner(wanted := revision())
        [process] = replicas_in(options["folder"])
        [record] = options["folder"].glob("*/replica.json")
        plan = [str(options["folder"] / "lock"), process.cwd(), process.environ(), process.cmdline()]
        process.kill()
        eventually(lambda: self.running(options) == 0)
        record.write_text(json.dumps(json.loads(record.read_text()) | {"pid": None, "started": None, "ready": False}))
        with record.with_name("born").open("w") as born:
            fcntl.flock(born, fcntl.LOCK_EX)
            slow = subprocess.Popen(
                [sys.executable, "-c", SLOW_FORK, json.dumps(plan)], pass_fds=[born.fileno()], start_new_session=True
            )
        backend = request.getfixturevalue("backend")
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        assert ask(replica.address)["pid"] == slow.pid == self.pid(replica)
        assert self.running(options) == 1
        slow.returncode = 0  # the backend collects it

    def test_a_pid_that_another_process_has_got_is_left_alone(self, options, revision, dead_owner, request):
        dead_owner(wanted := revision())
        [process] = replicas_in(options["folder"])
        [record] = options["folder"].glob("*/replica.json")
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
        with stranger:
            try:
                process.kill()
                eventually(lambda: self.running(options) == 0)
                record.write_text(json.dumps(json.loads(record.read_text()) | {"pid": stranger.pid}))
                backend = request.getfixturevalue("backend")
                backend.apply(wanted)
                self.ready(backend, wanted)
                backend.remove(wanted.id)
                assert stranger.poll() is None
            finally:
                stranger.communicate(b"\n")

    def test_a_replica_without_a_readable_record_is_ended(self, options, revision, dead_owner, request):
        dead_owner(revision())
        [record] = options["folder"].glob("*/replica.json")
        record.write_text("{")
        backend = request.getfixturevalue("backend")
        eventually(lambda: self.running(options) == 0)
        assert not record.parent.exists()
        assert backend.replicas("tides-blue-1") == []

    def test_children_of_a_killed_replica_are_ended_with_it(self, backend, revision, options):
        wanted = revision(
            "import subprocess\ndef init():\n    subprocess.Popen(['sleep', '600'])\ndef run(body):\n    return 1\n"
        )
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        eventually(lambda: self.running(options) == 2)
        before = {each.pid for each in replicas_in(options["folder"])}
        self.kill(replica, options)
        eventually(lambda: before.isdisjoint(each.pid for each in replicas_in(options["folder"])))
        self.ready(backend, wanted)
        backend.remove(wanted.id)
        eventually(lambda: self.running(options) == 0)

    def test_children_with_a_session_of_their_own_are_ended_with_the_revision(self, backend, revision, options):
        wanted = revision(
            "import subprocess\ndef init():\n    subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
            "def run(body):\n    return 1\n"
        )
        backend.apply(wanted)
        self.ready(backend, wanted)
        eventually(lambda: self.running(options) == 2)
        backend.remove(wanted.id)
        eventually(lambda: self.running(options) == 0)

    def test_children_that_outlived_a_replica_are_ended_by_the_next_server(
        self, options, revision, dead_owner, request
    ):
        wanted = revision(
            "import subprocess\ndef init():\n    subprocess.Popen(['sleep', '600'])\ndef run(body):\n    return 1\n"
        )
        dead_owner(wanted)
        [record] = options["folder"].glob("*/replica.json")
        os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        eventually(lambda: self.running(options) == 1)
        request.getfixturevalue("backend")
        eventually(lambda: self.running(options) == 0)

    def test_a_replica_that_ignores_sigterm_is_killed(self, backend, revision, options, monkeypatch):
        monkeypatch.setattr("modelport.backends.supervisor.EXIT", 0.3)
        wanted = revision(
            "import signal\ndef init():\n    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
            "def run(body):\n    return 1\n"
        )
        backend.apply(wanted)
        self.ready(backend, wanted)
        backend.remove(wanted.id)
        assert self.running(options) == 0

    def test_an_owner_that_fails_for_ever_delays_a_stop_but_not_for_ever(self, backend, revision, options, monkeypatch):
        monkeypatch.setattr("modelport.backends.supervisor.PATIENCE", 0.5)
        wanted = revision()
        backend.apply(wanted)
        self.ready(backend, wanted)

        def changed(_):
            raise RuntimeError("the gateway is away")

        backend.changed = changed
        began = time.monotonic()
        backend.remove(wanted.id)
        assert time.monotonic() - began > 0.5
        assert self.running(options) == 0

    def test_a_kept_connection_is_waited_for_but_not_for_ever(self, backend, revision, options, monkeypatch):
        monkeypatch.setattr("modelport.backends.supervisor.DRAIN_SPARE", 0.2)
        monkeypatch.setattr("modelport.backends.supervisor.EXIT", 0.2)
        wanted = revision(request_timeout=1.0)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        with socket.socket(socket.AF_UNIX) as kept:
            kept.connect(replica.address)
            began = time.monotonic()
            backend.apply(evolve(wanted, instances=0))
            eventually(lambda: not Path(replica.address).exists())
            assert time.monotonic() - began > 1.2
        eventually(lambda: self.running(options) == 0)

    @pytest.mark.parametrize("change", [{"python": "/nowhere/python"}, {"app_root": "/nowhere"}])
    def test_what_cannot_be_started_is_a_failure(self, backend, revision, change):
        wanted = revision(**change)
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert failure.code == "DeploymentFailed"
        assert "/nowhere" in failure.message
        backend.remove(wanted.id)
        assert backend.revisions() == set()

    def test_a_folder_that_cannot_be_written_is_a_failure_and_passes(self, backend, revision, options):
        wanted = revision()
        (options["logs"] / wanted.id).write_text("in the way")
        backend.apply(wanted)
        assert "could not be started" in self.failure(backend, wanted).message
        (options["logs"] / wanted.id).unlink()
        self.ready(backend, wanted)

    def test_a_variable_that_cannot_be_one_is_a_failure(self, backend, revision):
        wanted = revision(environment_variables={"TIDE": "high\0low"})
        backend.apply(wanted)
        assert "could not be started: embedded null byte" in self.failure(backend, wanted).message

    def test_a_folder_in_use_is_refused(self, options):
        backend = open_backend("process", **options)
        with pytest.raises(errors.LocalServerError, match=rf"process {os.getpid()}\).*modelport down"):
            open_backend("process", **options)
        backend.close()
        open_backend("process", **options).close()

    def test_a_folder_whose_sockets_would_have_too_long_paths_is_refused(self, tmp_path):
        with pytest.raises(errors.LocalServerError, match="too long for the sockets"):
            open_backend("process", folder=tmp_path / ("x" * 100), logs=tmp_path)

    def test_a_closed_backend_refuses_work(self, options, revision):
        backend = open_backend("process", **options)
        backend.close()
        backend.close()
        with pytest.raises(errors.LocalServerError, match="closed"):
            backend.apply(revision())

    def test_folders_records_and_logs_are_private(self, backend, revision, options):
        wanted = revision(environment_variables={"SECRET": "hush"})
        backend.apply(wanted)
        self.ready(backend, wanted)
        for top in options.values():
            for path in [top, *top.rglob("*")]:
                if not path.is_socket():
                    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    def test_logs_rotate_and_are_read_across(self, backend, revision, options, monkeypatch):
        monkeypatch.setattr(replica_module, "LOG_BYTES", 2000)
        monkeypatch.setattr("modelport.backends.supervisor.ROTATION", 0.05)
        copyfile = shutil.copyfile
        # The moment in which the lines are in both files, longer.
        monkeypatch.setattr(shutil, "copyfile", lambda *files: (copyfile(*files), time.sleep(0.02)))
        wanted = revision(
            "import itertools, threading, time\n"
            "def write():\n    for each in itertools.count():\n        print('line', each, flush=True)\n"
            "        time.sleep(0.001)\n"
            "def init():\n    threading.Thread(target=write, daemon=True).start()\ndef run(body):\n    return 1\n"
        )
        backend.apply(wanted)
        log = options["logs"] / wanted.id / "0.log"
        eventually(lambda: log.with_name("0.log.1").exists() and log.stat().st_size > 100)
        for _ in range(200):  # many of them while it rotates
            found = re.findall(r" - line (\d+)$", backend.logs(wanted.id, 100_000), re.MULTILINE)
            numbers = [int(each) for each in found]
            assert numbers == sorted(set(numbers))
        eventually(lambda: re.search(r" - line \d{3,}$", backend.logs(wanted.id, 100_000), re.MULTILINE))
        backend.remove(wanted.id)
        assert not log.parent.exists()

    def test_a_death_is_told_within_a_tenth_of_a_second(self, backend, owner, revision, options):
        wanted = revision()
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        eventually(lambda: owner.ready.get(wanted.id))
        delays = []
        for deaths in range(1, 4):
            owner.calls.clear()
            killed = time.monotonic()
            self.kill(replica, options)
            eventually(lambda: owner.calls)
            delays.append(owner.calls[0][0] - killed)
            eventually(lambda deaths=deaths: backend.replicas(wanted.id)[0].restarts == deaths)
            self.ready(backend, wanted)
            eventually(lambda: owner.ready[wanted.id])
        assert min(delays) < 0.1


# what stands alone


def test_the_environment_is_the_persons_without_their_python_and_with_azures_variables():
    revision = Revision(
        id="tides-blue-1",
        endpoint="tides",
        deployment="blue",
        instances=1,
        python="/env/bin/python",
        app_root="/code",
        entry_script="score.py",
        model_dir="/model",
        environment_variables={"TZ": "Europe/Dublin", "MODELPORT_DEPLOYMENT": "green"},
        max_concurrent_requests=3,
    )
    outer = {
        "PATH": "/bin",
        "HOME": "/home/ada",
        "TZ": "UTC",
        "HTTPS_PROXY": "http://proxy",
        "OMP_NUM_THREADS": "2",
        "VIRTUAL_ENV": "/mine",
        "PYTHONPATH": "/mine",
        "CONDA_PREFIX": "/mine",
        "MODELPORT_HOME": "/mine",
        "AZUREML_MODEL_DIR": "/mine",
    }
    assert environment(revision, outer) == {
        "PATH": "/env/bin:/bin",
        "HOME": "/home/ada",
        "TZ": "Europe/Dublin",
        "HTTPS_PROXY": "http://proxy",
        "OMP_NUM_THREADS": "2",
        "PYTHONNOUSERSITE": "1",
        "AML_APP_ROOT": "/code",
        "AZUREML_ENTRY_SCRIPT": "score.py",
        "AZUREML_MODEL_DIR": "/model",
        "MODELPORT_DEPLOYMENT": "blue",
        "MODELPORT_MAX_CONCURRENT_REQUESTS": "3",
        "MODELPORT_GRACE_SECONDS": "5",
    }


@pytest.fixture
def listener():
    folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        listening.listen(2)
        yield listening
    shutil.rmtree(folder)


def test_a_connection_counts_until_its_listener_has_closed_it(listener):
    path = listener.getsockname()
    assert connections(path) == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert connections(path) == 1
        accepted, _ = listener.accept()
        assert connections(path) == 1
    assert connections(path) == 1
    accepted.close()
    assert connections(path) == 0


def outcome(path, timeout):
    """A question's answer and how long it took."""
    with selectors.DefaultSelector() as selector:
        began = time.monotonic()
        question = Question(Target(path, "/"), timeout, began, selector)
        answer = eventually(lambda: question.answer(time.monotonic()))
        assert not selector.get_map()
        return answer, time.monotonic() - began


@pytest.mark.parametrize(
    ("sent", "passed", "saw"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False, "status 503"),
        (b"what?\r\n", False, "status 0"),
        (b"", False, "a connection closed without an answer"),
    ],
)
def test_a_probe_tells_what_it_saw(listener, sent, passed, saw):
    def serve():
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(1000)
            for byte in sent:
                accepted.send(bytes([byte]))

    thread = threading.Thread(target=serve)
    thread.start()
    answer, _ = outcome(listener.getsockname(), 5)
    thread.join()
    assert (answer.passed, answer.saw) == (passed, saw)


def test_a_probe_waits_no_longer_than_its_timeout_for_a_listener_that_hangs(listener):
    crowd = []
    for _ in range(5):  # also when the listener's queue is full
        answer, seconds = outcome(listener.getsockname(), 0.2)
        assert answer.saw == "no answer within 0.2 s"
        assert 0.2 <= seconds < 5
        crowd.append(socket.socket(socket.AF_UNIX))
        crowd[-1].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            crowd[-1].connect(listener.getsockname())
    for each in crowd:
        each.close()


def test_a_probe_tells_an_absent_listener_from_one_that_died(listener):
    path = listener.getsockname()
    assert outcome(path + "-", 1)[0].saw == "that it does not listen yet"
    listener.close()
    assert outcome(path, 1)[0].saw == "connection refused"


def test_a_probes_deadline_is_azures():
    assert Probe().deadline == 310


def test_backends_are_opened_by_name():
    with pytest.raises(errors.UnsupportedByBackend, match=r"'kubernetes'.*not part of this version"):
        open_backend("kubernetes")
    with pytest.raises(errors.ValidationException, match=r"no backend 'podman'. Use one of: process, docker"):
        open_backend("podman")


def test_a_backend_whose_package_is_missing_says_what_to_install():
    program = (
        "import sys; sys.modules['psutil'] = None\n"
        "from modelport.backends import open_backend\n"
        "try:\n    open_backend('process', folder=None, logs=None)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(SDK)},
    )
    assert "ValidationException" in done.stdout
    assert "needs psutil" in done.stdout
    assert "pip install 'modelport[local]'" in done.stdout
