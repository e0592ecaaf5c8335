"""
What every backend promises, as tests: `class TestX(BackendContract)` inherits them.

Replicas run real scoring scripts; the only things a backend's own tests bring are the
fixtures `options` and `runtime` and the hooks below, which do to a replica what fate does.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from modelport.backends import open_backend
from modelport.backends.base import Backend, Probe, Replica, Revision

QUICK = Probe(initial_delay=8, period=0.1, timeout=0.5, failure_threshold=3)
STEADY = Probe(initial_delay=0, period=0.1, timeout=0.5, failure_threshold=600)

SCORE = """
import json, os, threading, time, uuid
TOKEN = uuid.uuid4().hex
def init():
    print("init has run")
def run(body):
    what = json.loads(body)
    if "sleep" in what:
        time.sleep(what["sleep"])
    variable = os.environ.get(what.get("variable", ""))
    return {"token": TOKEN, "pid": os.getpid(), "variable": variable, "cwd": os.getcwd()}
"""

OWNER = """
import pickle, sys, time
from modelport.backends import open_backend
name, options, revision = pickle.load(sys.stdin.buffer)
backend = open_backend(name, **options)
backend.apply(revision)
deadline = time.monotonic() + 20
while [each.state for each in backend.replicas(revision.id)] != ["ready"] * revision.instances:
    assert time.monotonic() < deadline, "not ready in time"
    time.sleep(0.02)
print("ready", flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.01)
    return value


class Connection(http.client.HTTPConnection):
    """To a replica's address: a socket's path, or host:port."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost" if address.startswith("/") else address, timeout=20)
        self.address = address

    def connect(self) -> None:
        if not self.address.startswith("/"):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.address)


def ask(address: str, **body: Any) -> dict[str, Any]:
    with contextlib.closing(Connection(address)) as connection:
        connection.request("POST", "/score", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())


@define
class Owner:
    """What the control plane is to a backend: it hears of changes and remembers where requests may go."""

    backend: Backend
    ready: dict[str, set[str]] = field(factory=dict)
    calls: list[tuple[float, str]] = field(factory=list)

    def changed(self, revision_id: str) -> None:
        self.ready[revision_id] = {each.address for each in self.backend.replicas(revision_id) if each.state == "ready"}
        self.calls.append((time.monotonic(), revision_id))


class BackendContract:
    name: str

    # what a backend's tests bring

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """Arguments of the backend; what they lead to is cleared away afterwards."""
        raise NotImplementedError

    @pytest.fixture
    def runtime(self) -> dict[str, Any]:
        """What a revision says of what its replicas run in."""
        raise NotImplementedError

    def kill(self, replica: Replica, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def freeze(self, replica: Replica, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def thaw(self, replica: Replica, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def running(self, options: dict[str, Any]) -> int:
        """How many replicas really run."""
        raise NotImplementedError

    # fixtures

    @pytest.fixture
    def backend(self, options: dict[str, Any]) -> Iterator[Backend]:
        backend = open_backend(self.name, **options)
        yield backend
        for revision_id in backend.revisions():
            backend.remove(revision_id)
        backend.close()

    @pytest.fixture
    def owner(self, backend: Backend) -> Owner:
        owner = Owner(backend)
        backend.changed = owner.changed
        return owner

    @pytest.fixture
    def revision(self, tmp_path: Path, runtime: dict[str, Any]) -> Callable[..., Revision]:
        def make(script: str = SCORE, **changes: Any) -> Revision:
            root = tmp_path / f"code-{len(list(tmp_path.iterdir()))}"
            root.mkdir()
            (root / "score.py").write_text(textwrap.dedent(script))
            return evolve(
                Revision(
                    id="tides-blue-1",
                    endpoint="tides",
                    deployment="blue",
                    instances=1,
                    **runtime,
                    app_root=str(root),
                    entry_script="score.py",
                    max_concurrent_requests=2,
                    liveness=STEADY,
                    readiness=STEADY,
                ),
                **changes,
            )

        return make

    @staticmethod
    def ready(backend: Backend, revision: Revision) -> list[Replica]:
        """The replicas, once all are ready and nothing else is there."""

        def all_ready() -> list[Replica]:
            replicas = backend.replicas(revision.id)
            return replicas if [each.state for each in replicas] == ["ready"] * revision.instances else []

        return eventually(all_ready)

    @staticmethod
    def failure(backend: Backend, revision: Revision) -> Any:
        return eventually(lambda: next((each.failure for each in backend.replicas(revision.id) if each.failure), None))

    @pytest.fixture
    def dead_owner(self, options: dict[str, Any]) -> Callable[[Revision], None]:
        def run(revision: Revision) -> None:
            """Let another process start the revision, and kill it when all is ready."""
            sdk = str(Path(sys.modules["modelport"].__path__[0]).parent)
            child = subprocess.Popen(
                [sys.executable, "-c", OWNER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": sdk},
            )
            with child:
                assert child.stdin
                assert child.stdout
                try:
                    child.stdin.write(pickle.dumps((self.name, options, revision)))
                    child.stdin.close()
                    assert child.stdout.readline() == b"ready\n"
                finally:
                    child.kill()
            assert child.returncode == -signal.SIGKILL

        return run

    # starting

    def test_every_instance_becomes_ready_and_serves(self, backend, owner, revision, options):
        wanted = revision(instances=2)
        backend.apply(wanted)
        replicas = self.ready(backend, wanted)
        assert len({each.id for each in replicas}) == 2
        assert len({ask(each.address)["token"] for each in replicas}) == 2
        assert self.running(options) == 2
        eventually(lambda: owner.ready.get(wanted.id) == {each.address for each in replicas})

    def test_applying_again_changes_nothing(self, backend, revision):
        wanted = revision()
        backend.apply(wanted)
        backend.apply(wanted)
        before = self.ready(backend, wanted)
        token = ask(before[0].address)["token"]
        backend.apply(wanted)
        assert backend.replicas(wanted.id) == before
        assert ask(before[0].address)["token"] == token

    def test_a_script_finds_its_variables_and_its_folder(self, backend, revision, tmp_path):
        (model := tmp_path / "model").mkdir()
        wanted = revision(
            environment_variables={"TIDE": "high", "AZUREML_LOG_LEVEL": "DEBUG"},
            model_dir=str(model),
            model_mount="/var/azureml-app/azureml-models/tides/1",
        )
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        for name, value in {"TIDE": "high", "AZUREML_LOG_LEVEL": "DEBUG", "AZUREML_ENTRY_SCRIPT": "score.py"}.items():
            assert ask(replica.address, variable=name)["variable"] == value
        assert ask(replica.address, variable="AZUREML_MODEL_DIR")["variable"]
        assert ask(replica.address, variable="AML_APP_ROOT")["variable"] == ask(replica.address)["cwd"]

    def test_two_revisions_run_side_by_side(self, backend, revision, options):
        blue, green = revision(), revision(id="tides-blue-2")
        backend.apply(blue)
        backend.apply(green)
        self.ready(backend, blue)
        [kept] = self.ready(backend, green)
        assert backend.revisions() == {blue.id, green.id}
        backend.remove(blue.id)
        assert backend.revisions() == {green.id}
        assert ask(kept.address)["token"]
        assert self.running(options) == 1

    def test_an_unknown_revision_is_empty(self, backend):
        assert backend.replicas("nobody") == []
        assert backend.logs("nobody", 10) == ""
        backend.remove("nobody")
        assert backend.revisions() == set()

    # failing

    def test_init_that_raises_is_the_failure(self, backend, revision):
        wanted = revision("def init():\n    raise ValueError('no tide table')\ndef run(body):\n    return 1\n")
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert failure.code == "UserScriptInitFailed"
        assert "no tide table" in failure.message
        assert "score.py" in failure.log

    def test_a_replica_that_ends_without_a_word_tells_its_exit_code_and_its_last_lines(self, backend, revision):
        wanted = revision(
            "import os\nprint('on my way out')\ndef init():\n    os._exit(7)\ndef run(body):\n    return 1\n"
        )
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert failure.code == "DeploymentFailed"
        assert "exit code 7 before it was ready" in failure.message
        assert "on my way out" in failure.log

    def test_init_that_hangs_is_given_up_and_the_log_says_where(self, backend, revision, options, monkeypatch):
        monkeypatch.setattr("modelport.backends.supervisor.DUMP", 3)
        probe = Probe(initial_delay=6, period=0.1, timeout=0.2, failure_threshold=5)
        wanted = revision(
            "import time\ndef init():\n    wait_for_godot()\ndef wait_for_godot():\n    time.sleep(600)\n"
            "def run(body):\n    return 1\n",
            readiness=probe,
        )
        began = time.monotonic()
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert 6.5 <= time.monotonic() - began < 40
        assert failure.code == "ResourceNotReady"
        assert "within 6.5 s" in failure.message
        assert "The script is at score.py, line 5, in wait_for_godot" in failure.message
        assert "wait_for_godot" in failure.log
        backend.remove(wanted.id)
        assert self.running(options) == 0

    @pytest.mark.parametrize(
        ("death", "how"),
        [
            ("ctypes.string_at(0)", "was ended by signal SIGSEGV before it was ready (score.py, line 4, in init)"),
            ("raise MemoryError('weights')", "init() raised MemoryError: weights (score.py, line 4)"),
        ],
    )
    def test_init_that_dies_tells_what_killed_it_and_its_last_lines(self, backend, revision, death, how):
        wanted = revision(
            f"import ctypes, os, signal\ndef init():\n    print('loading', flush=True)\n    {death}\n"
            "def run(body):\n    return 1\n"
        )
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert how in failure.message
        assert "loading" in failure.log or "line 4, in init" in failure.log

    def test_a_run_that_keeps_the_interpreter_longer_than_its_probes_allow_is_no_reason_to_end_it(
        self, backend, revision
    ):
        tight = Probe(initial_delay=10, period=1, timeout=1, failure_threshold=2)
        wanted = revision(
            "import ctypes\ndef init():\n    pass\ndef run(body):\n    ctypes.PyDLL(None).sleep(6)\n    return 1\n",
            liveness=tight,
            readiness=tight,
            request_timeout=20,
        )
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        for _ in range(3):  # past the initial delay
            assert ask(replica.address) == 1
            [after] = backend.replicas(wanted.id)
            assert (after.state, after.restarts) == ("ready", 0)

    def test_a_replica_that_fails_again_and_again_is_started_less_and_less_often(self, backend, revision):
        wanted = revision("import os\nos._exit(1)\n")
        began = time.monotonic()
        backend.apply(wanted)
        eventually(lambda: backend.replicas(wanted.id)[0].restarts == 4)
        assert time.monotonic() - began > 0.1 + 0.2 + 0.4

    def test_a_failing_replica_does_not_disturb_the_others(self, backend, owner, revision):
        good, bad = revision(), revision("import time\ntime.sleep(600)\n", id="tides-blue-2")
        backend.apply(bad)
        backend.apply(good)
        self.ready(backend, good)
        assert backend.replicas(bad.id)[0].state == "starting"
        assert owner.ready.get(bad.id, set()) == set()

    # staying

    def test_a_killed_replica_leaves_at_once_and_is_restarted(self, backend, owner, revision, options):
        wanted = revision(instances=2)
        backend.apply(wanted)
        first, second = self.ready(backend, wanted)
        tokens = [ask(each.address)["token"] for each in (first, second)]
        eventually(lambda: len(owner.ready.get(wanted.id, ())) == 2)
        self.kill(first, options)
        killed = time.monotonic()
        eventually(lambda: owner.ready[wanted.id] == {second.address})
        assert next(at for at, _ in owner.calls if at > killed) - killed < 5  # 0.1 where nothing else is to do
        after = self.ready(backend, wanted)
        assert [each.restarts for each in after] == [1, 0]
        assert after[0].failure is not None
        assert "SIGKILL" in after[0].failure.message
        assert ask(after[0].address)["token"] != tokens[0]
        assert ask(after[1].address)["token"] == tokens[1]
        eventually(lambda: len(owner.ready[wanted.id]) == 2)
        assert self.running(options) == 2

    def test_a_replica_that_answers_no_more_is_restarted(self, backend, revision, options):
        wanted = revision(liveness=QUICK)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        token = ask(replica.address)["token"]
        self.freeze(replica, options)
        failure = self.failure(backend, wanted)
        assert "liveness probe 3 times" in failure.message
        assert "no answer within 0.5 s" in failure.message or "no sign of life" in failure.message
        [replica] = self.ready(backend, wanted)
        assert ask(replica.address)["token"] != token

    def test_a_replica_that_is_not_ready_leaves_and_comes_back(self, backend, owner, revision, options):
        wanted = revision(readiness=QUICK)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        token = ask(replica.address)["token"]
        self.freeze(replica, options)
        eventually(lambda: backend.replicas(wanted.id)[0].state == "unready")
        eventually(lambda: owner.ready[wanted.id] == set())
        self.thaw(replica, options)
        self.ready(backend, wanted)
        eventually(lambda: owner.ready[wanted.id] == {replica.address})
        assert ask(replica.address)["token"] == token

    def test_a_slow_owner_stalls_no_replica(self, backend, revision, options):
        gate = threading.Event()
        backend.changed = lambda _: gate.wait(30)
        try:
            wanted = revision(instances=2)
            backend.apply(wanted)
            first, _ = self.ready(backend, wanted)
            self.kill(first, options)
            eventually(lambda: backend.replicas(wanted.id)[0].restarts == 1)
            self.ready(backend, wanted)
        finally:
            gate.set()

    def test_an_owner_that_fails_is_told_again(self, backend, revision):
        heard = threading.Event()

        def changed(_: str) -> None:
            if not heard.is_set():
                heard.set()
                raise RuntimeError("the gateway is away")
            again.set()

        again = threading.Event()
        backend.changed = changed
        backend.apply(revision())
        assert again.wait(20)

    # fewer and more

    def test_scaling_keeps_the_replicas_that_stay(self, backend, owner, revision, options):
        wanted = revision()
        backend.apply(wanted)
        [oldest] = self.ready(backend, wanted)
        token = ask(oldest.address)["token"]
        backend.apply(evolve(wanted, instances=3))
        self.ready(backend, evolve(wanted, instances=3))
        backend.apply(wanted)
        [left] = self.ready(backend, wanted)
        assert left.id == oldest.id
        assert ask(left.address)["token"] == token
        assert self.running(options) == 1
        assert owner.ready[wanted.id] == {oldest.address}

    def test_no_instances_is_a_number_of_instances(self, backend, revision, options):
        wanted = revision()
        backend.apply(wanted)
        self.ready(backend, wanted)
        backend.apply(evolve(wanted, instances=0))
        eventually(lambda: backend.replicas(wanted.id) == [])
        assert self.running(options) == 0
        backend.apply(wanted)
        self.ready(backend, wanted)

    # stopping

    def test_a_request_inside_is_finished_before_a_replica_ends(self, backend, revision, options):
        wanted = revision()
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, replica.address, sleep=1.5)
            eventually(lambda: not answer.done() and ask(replica.address)["token"])
            backend.remove(wanted.id)
            assert answer.done()
            assert answer.result()["token"]
        assert self.running(options) == 0
        assert backend.revisions() == set()

    def test_a_replica_serves_until_its_owner_knows_that_it_leaves(self, backend, revision, options):
        wanted = revision()
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        reached, gate = threading.Event(), threading.Event()

        def changed(_: str) -> None:
            if [each.state for each in backend.replicas(wanted.id)] == ["stopping"]:
                reached.set()
                gate.wait(20)

        backend.changed = changed
        with ThreadPoolExecutor() as pool:
            removal = pool.submit(backend.remove, wanted.id)
            try:
                assert reached.wait(20)
                assert ask(replica.address, sleep=0.5)[
                    "token"
                ]  # longer than a quiet replica would have been left alive
                assert not removal.done()
            finally:
                gate.set()
            removal.result(20)
        assert self.running(options) == 0

    def test_an_idle_revision_is_removed_quickly(self, backend, revision, options):
        wanted = revision(instances=2)
        backend.apply(wanted)
        self.ready(backend, wanted)
        began = time.monotonic()
        backend.remove(wanted.id)
        assert time.monotonic() - began < 10
        assert self.running(options) == 0

    def test_a_starting_revision_can_be_removed(self, backend, revision, options):
        wanted = revision("import time\ndef init():\n    time.sleep(600)\ndef run(body):\n    return 1\n", instances=2)
        backend.apply(wanted)
        eventually(lambda: self.running(options) == 2)
        backend.remove(wanted.id)
        assert self.running(options) == 0

    # surviving

    def test_replicas_of_a_dead_owner_are_adopted_and_none_is_started_twice(
        self, options, revision, dead_owner, request
    ):
        wanted = revision(instances=2)
        dead_owner(wanted)
        assert self.running(options) == 2
        backend: Backend = request.getfixturevalue("backend")
        owner: Owner = request.getfixturevalue("owner")
        assert backend.revisions() == {wanted.id}
        backend.apply(wanted)
        replicas = backend.replicas(wanted.id)
        assert [each.state for each in replicas] == ["ready", "ready"]  # at once: requests must not miss them
        tokens = [ask(each.address)["token"] for each in replicas]
        eventually(lambda: len(owner.ready.get(wanted.id, ())) == 2)
        assert self.running(options) == 2
        self.kill(replicas[0], options)
        eventually(lambda: backend.replicas(wanted.id)[0].restarts == 1)
        after = self.ready(backend, wanted)
        assert ask(after[0].address)["token"] != tokens[0]
        assert ask(after[1].address)["token"] == tokens[1]
        backend.remove(wanted.id)
        assert self.running(options) == 0

    def test_adoption_ends_what_is_too_many_and_starts_what_is_missing(self, options, revision, dead_owner, request):
        wanted = revision(instances=3)
        dead_owner(wanted)
        backend: Backend = request.getfixturevalue("backend")
        backend.apply(evolve(wanted, instances=1))
        eventually(lambda: self.running(options) == 1)
        backend.apply(evolve(wanted, instances=2))
        self.ready(backend, evolve(wanted, instances=2))
        assert self.running(options) == 2

    def test_a_revision_of_a_dead_owner_can_be_removed_unapplied(self, options, revision, dead_owner, request):
        dead_owner(revision())
        backend: Backend = request.getfixturevalue("backend")
        [left] = backend.revisions()
        backend.remove(left)
        assert backend.revisions() == set()
        assert self.running(options) == 0

    def test_closing_leaves_replicas_running(self, options, revision):
        wanted = revision()
        backend = open_backend(self.name, **options)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        token = ask(replica.address)["token"]
        backend.close()
        assert ask(replica.address)["token"] == token
        again = open_backend(self.name, **options)
        try:
            again.apply(wanted)
            assert [each.id for each in self.ready(again, wanted)] == [replica.id]
            assert ask(replica.address)["token"] == token
        finally:
            again.remove(wanted.id)
            again.close()
        assert self.running(options) == 0

    # telling

    def test_logs_tell_the_last_lines_of_every_replica(self, backend, revision):
        wanted = revision(
            "def init():\n    for each in range(50):\n        print('line', each)\ndef run(body):\n    return 1\n"
        )
        wanted = evolve(wanted, instances=2)
        backend.apply(wanted)
        self.ready(backend, wanted)
        text = eventually(lambda: (log := backend.logs(wanted.id, 100)).count("line 49") == 2 and log)
        assert text.count("==>") == 2
        assert text.count("line 0\n") == 2
        assert len(backend.logs(wanted.id, 3).splitlines()) <= 2 * 4 + 1
        backend.remove(wanted.id)
        assert backend.logs(wanted.id, 100) == ""
