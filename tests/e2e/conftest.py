"""
A workspace with its background server, a load on its endpoint, and nothing left behind.

Tests stand outside as users do: they have `MLClient.local()`, the `modelport` command, HTTP,
and the machine's table of processes.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import docker
import psutil
import pytest

from modelport import MLClient, engine
from modelport.backends.docker import workspace_mark
from modelport.backends.watched import folder_name
from modelport.controlplane.home import open_home
from modelport.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    OnlineRequestSettings,
)
from modelport.testing import environments_folder

LOAD = Path(__file__).with_name("load.py")

BASE = "modelport-test/base:bookworm"

SCRIPT = """
import json
import os
import time

MODEL = {model!r}
CONTAINED = os.path.isdir("/run/modelport")
WHO = int.from_bytes(os.urandom(6), "big") if CONTAINED else os.getpid()
record = None


def init():
    global record
    time.sleep({start})
    runs = {runs!r}
    if CONTAINED:  # nothing of this machine is in there but the replica's own folder
        runs = "/run/modelport/runs-" + str(WHO)
    record = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def run(data):
    n = json.loads(data)["n"]
    os.write(record, f"{{n}} {{MODEL}} {{WHO}}\\n".encode())
    time.sleep({busy})
    return {{"n": n, "model": MODEL, "pid": WHO}}
"""
"""Writes down every run, in one piece, before it answers."""


def wait_until(condition, what, seconds=30.0):
    """What `condition` returns when it is true at last."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return found


def ended(process):
    """
    Whether a process has ended with all its threads: sockets are open until the last one is gone.

    One that was started here is cleared away.
    """
    if isinstance(process, Container):
        return process.ended()
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() < 2)
    except psutil.NoSuchProcess:  # psutil's word for a zombie, too, where it knows nothing more of one
        return True


def naming(*texts):
    """The live processes whose command line names one of `texts`, but those that replicas fork for their probes."""
    psutil.process_iter.cache_clear()  # or one with the pid of another, looked at before, could not be killed
    found = []
    for process in psutil.process_iter(["cmdline", "status", "name"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.info["name"] == "modelport-probe":
            continue
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(text in line for text in texts):
            found.append(process)
    return found


def binomial_bound(draws, percent):
    """
    The counts of hits that are to be expected: fewer, or more, have a chance of 1e-6 at most, half of it either way.

    Exact: whole numbers out of 100 to the power of `draws`.
    """
    least = 100**draws // 2_000_000
    ways = [math.comb(draws, k) * percent**k * (100 - percent) ** (draws - k) for k in range(draws + 1)]
    at_most = list(accumulate(ways))
    low = next(k for k in range(draws + 1) if at_most[k] > least)
    high = next(k for k in range(draws, -1, -1) if at_most[-1] - at_most[k] + ways[k] > least)
    return range(low, high + 1)


class Container:
    """A replica that is a container, as `psutil.Process` is one that is a process; `pid` is what its answers say."""

    def __init__(self, found, folder):
        self._found = found
        started = datetime.fromisoformat(found.attrs["State"]["StartedAt"][:19] + "+00:00").timestamp()
        wrote = [each for each in folder.glob("w/runs-*") if each.stat().st_mtime >= started]
        self.host_pid = found.attrs["State"]["Pid"]
        # Before it has written anything it has no name of its own.
        self.pid = int(max(wrote, key=lambda each: each.stat().st_ctime).name[5:]) if wrote else -self.host_pid
        self.deployment = found.labels["deployment"]

    def kill(self):
        self._found.kill()

    def ended(self):
        try:
            self._found.reload()
        except docker.errors.NotFound:
            return True
        state = self._found.attrs["State"]
        return not state["Running"] or state["Pid"] != self.host_pid


class Site:
    """A workspace in a folder of its own, seen from outside."""

    backend = "process"
    environment = None

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp")).resolve()
        environments_folder().mkdir(parents=True, exist_ok=True)
        (self.home / "environments").symlink_to(environments_folder())  # built once for all tests
        self.runtime = open_home(self.home).runtime
        self.endpoint = ManagedOnlineEndpoint(name="tides", auth_mode="key")
        self.recorded = self.home / "runs"
        self._client = None

    # What a user does

    @property
    def client(self):
        """The client that is open; the first one starts the server."""
        self._client = self._client or MLClient.local(home=self.home, backend=self.backend)
        return self._client

    def another_client(self):
        """As another process would make it."""
        self._client = None
        return self.client

    def modelport(self, command, *options):
        """What the `modelport` command prints."""
        line = [sys.executable, "-m", "modelport.cli", command, "--home", str(self.home), *options]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self):
        """`modelport up`, and a client of the server that is up then."""
        self.modelport("up")
        self.another_client()

    def create(self):
        """The endpoint."""
        self.client.online_endpoints.begin_create_or_update(self.endpoint).result(60)

    def deployment(self, model, instances, *, busy=0.0, start=0.0):
        """A deployment that answers as `model`, e.g. `blue-1`."""
        code = self.home / "code" / model
        code.mkdir(parents=True, exist_ok=True)
        script = SCRIPT.format(model=model, runs=str(self.recorded), busy=busy, start=start)
        (code / "score.py").write_text(script)
        return ManagedOnlineDeployment(
            name=model.partition("-")[0],
            endpoint_name="tides",
            code_configuration=CodeConfiguration(code=str(code), scoring_script="score.py"),
            environment=self.environment,
            instance_type="Standard_DS3_v2",
            instance_count=instances,
            # Longer than any pause of this machine, which is nobody's failure.
            request_settings=OnlineRequestSettings(request_timeout_ms=60_000),
        )

    def deploy(self, model, instances, **how):
        """Deploy, or update, and wait."""
        self.client.online_deployments.begin_create_or_update(self.deployment(model, instances, **how)).result(120)

    def route(self, *, mirror=None, **traffic):
        """Set the traffic, and wait; requests sent after this go as it says."""
        self.endpoint.traffic, self.endpoint.mirror_traffic = traffic, mirror or {}
        self.client.online_endpoints.begin_create_or_update(self.endpoint).result(60)
        return time.monotonic()

    def address(self):
        """The endpoint's URL and its primary key."""
        endpoints = self.client.online_endpoints
        return endpoints.get("tides").scoring_uri, endpoints.get_keys("tides").primary_key

    # What the machine says

    def replicas(self, deployment="blue"):
        """Its replicas, by pid."""
        found = {}
        for process in naming(f"{self.runtime}/r/"):
            with suppress(psutil.NoSuchProcess):
                if process.environ().get("MODELPORT_DEPLOYMENT") == deployment:
                    found[process.pid] = process
        return found

    def envoys(self):
        """The gateways, by pid: one."""
        return {process.pid: process for process in naming(f"{self.runtime}/g/")}

    def servers(self):
        """The background servers, by pid: one."""
        return {process.pid: process for process in naming(f"serve --home {self.home}")}

    def processes(self):
        """Everything that runs for this workspace, by pid."""
        return {process.pid: process for process in naming(str(self.runtime), f"serve --home {self.home}")}

    def kill(self, process):
        """`kill -9`: of whom, and the moments before it and after the process was gone."""
        before = time.monotonic()
        process.kill()
        wait_until(lambda: ended(process), f"process {process.pid} ends")
        return SimpleNamespace(pid=process.pid, before=before, after=time.monotonic())

    def forget_runs(self):
        """Count runs from now on."""
        self.recorded.write_bytes(b"")  # the same file: replicas have it open

    def _recorded_runs(self):
        return self.recorded.read_text()

    def runs(self):
        """Every run() of any replica: request → [(model, pid), …]."""
        found = {}
        for line in self._recorded_runs().splitlines():
            n, model, pid = line.split()
            found.setdefault(int(n), []).append((model, int(pid)))
        return found

    @contextmanager
    def load(self):
        """A load of 200 requests a second while the block runs."""
        load = Load(self)
        try:
            yield load
            load.stop()
        finally:
            load.close()

    def close(self):
        """End what is left, the server first, since it would restart the others."""
        for text in (f"serve --home {self.home}", str(self.runtime)):
            for process in naming(text):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                wait_until(lambda process=process: ended(process), f"process {process.pid} ends")
        shutil.rmtree(self.runtime, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)


class DockerSite(Site):
    """As `Site`, with containers for replicas."""

    backend = "docker"
    environment = Environment(image=BASE)

    def __init__(self):
        super().__init__()
        self.engine = docker.from_env()
        self._folder = self.runtime / "r"
        self._files = {}
        self._forgotten = {}
        self._closing = threading.Event()
        self._gatherer = threading.Thread(target=self._gather)
        self._gatherer.start()

    def _gather(self):
        """Open what replicas write before they are gone with it."""
        while not self._closing.wait(0.02):
            with suppress(FileNotFoundError):  # a folder, also one that is gone by the time it is looked into
                for path in self._folder.glob("*/w/runs-*"):
                    if path.name not in self._files:
                        self._files[path.name] = path.open()

    def forget_runs(self):
        self._forgotten = {name: os.fstat(file.fileno()).st_size for name, file in self._files.items()}

    def _recorded_runs(self):
        for name, file in self._files.items():
            file.seek(self._forgotten.get(name, 0))
        return "".join(file.read() for file in self._files.values())

    def _containers(self, **options):
        label = [f"{engine.WORKSPACE}={workspace_mark(self._folder)}", f"{engine.KIND}=replica"]
        return self.engine.containers.list(filters={"label": label}, ignore_removed=True, **options)

    def replicas(self, deployment="blue"):
        found = [Container(each, self._folder_of(each)) for each in self._containers()]
        return {each.pid: each for each in found if each.deployment == deployment and each.pid > 0}

    def processes(self):
        running = [Container(each, self._folder_of(each)) for each in self._containers()]
        return {**super().processes(), **{each.host_pid: each for each in running}}

    def _folder_of(self, container):
        revision, _, index = container.labels["modelport.replica"].rpartition("-")
        return self._folder / folder_name(revision, int(index))

    def close(self):
        self._closing.set()
        self._gatherer.join()
        for file in self._files.values():
            file.close()
        for process in self.servers().values():
            process.kill()
            wait_until(lambda process=process: ended(process), f"process {process.pid} ends")
        try:
            for each in self._containers(all=True):
                each.remove(force=True)
            label = f"{engine.WORKSPACE}={workspace_mark(self._folder)}"
            for network in self.engine.networks.list(filters={"label": label}):
                network.remove()
        finally:
            self.engine.close()
            super().close()


SITES = {"process": Site, "docker": DockerSite}


class Load:
    """The load generator's process, and what it saw."""

    def __init__(self, site):
        self._site = site
        out = site.home / f"load-{time.monotonic_ns()}.jsonl"
        out.touch()
        self._lines, self._half, self._seen = out.open(), "", []
        site.forget_runs()
        self.phases = {}
        url, key = site.address()
        command = [sys.executable, str(LOAD), url, key, str(out)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.more(20)

    def seen(self):
        """What became of the requests that have ended, in the order of their ends."""
        if self._lines.closed:
            return self._seen
        *lines, self._half = (self._half + self._lines.read()).split("\n")
        self._seen += [SimpleNamespace(**json.loads(line)) for line in lines]
        return self._seen

    def more(self, requests):
        """Wait until so many requests that began after this have ended."""
        began, before = time.monotonic(), len(self.seen())

        def have_ended():
            return sum(each.sent > began for each in self.seen()[before:]) >= requests

        wait_until(lambda: self._alive() and have_ended(), f"{requests} more requests", seconds=90)

    @contextmanager
    def phase(self, name):
        """What happens under the load here is a phase: it lasts 500 requests at least."""
        phase = self.phases[name] = SimpleNamespace(begin=time.monotonic(), done=math.inf, end=math.inf)
        yield phase
        phase.done = time.monotonic()
        wait_until(lambda: self._alive() and len(self.of(phase)) >= 500, f"500 requests in {name}", seconds=90)
        phase.end = time.monotonic()

    def of(self, phase):
        """The requests of a phase."""
        return [each for each in self.seen() if phase.begin <= each.scheduled < phase.end]

    def failures(self):
        """The requests that failed."""
        return [each for each in self.seen() if each.error]

    def stop(self):
        """Begin nothing more, and let the requests inside end."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
            assert self._process.wait(30) == 0

    def check_counts(self, *, mirror=None):
        """
        The replicas' count equals the caller's.

        Each request that was answered was run once, by who answered; one that failed, at most once. Only the model
        `mirror` may have run others' requests besides, each once; returns which these are.
        """
        self.stop()
        runs, copied = self._site.runs(), set()
        for each in self.seen():
            made = runs.pop(each.n, [])
            if mirror != each.model and mirror in [model for model, _ in made]:
                copied.add(each.n)
                made.remove(next(run for run in made if run[0] == mirror))
            if each.error:
                assert len(made) <= 1, (each, made)
            else:
                assert made == [(each.model, each.pid)], (each, made)
        assert not runs, f"runs of requests that were never sent: {runs}"
        return copied

    def close(self):
        """End the process, whatever it does."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self.seen()
        self._lines.close()

    def _alive(self):
        assert self._process.poll() is None, f"the load generator ended with status {self._process.returncode}"
        return True


@pytest.fixture(scope="session")
def runtimes():
    """The folders that replicas and gateways of this session's workspaces name on their command lines."""
    used = []
    yield used
    left = [process.cmdline() for runtime in used for process in naming(runtime)]
    assert not left, f"left running: {left}"


def opened_site(runtimes, request):
    """A workspace with the backend that `request` asks for, closed in the end."""
    if request.param == "docker":
        request.getfixturevalue("docker_engine")
    site = SITES[request.param]()
    runtimes += [str(site.runtime), f"serve --home {site.home}"]
    yield site
    site.close()


@pytest.fixture(params=SITES)
def empty_site(runtimes, request):
    """A workspace without anything; its server starts with the first client."""
    yield from opened_site(runtimes, request)


@pytest.fixture
def site(empty_site):
    """A workspace with endpoint `tides`, whose traffic goes to two replicas of `blue`; each request takes 2 ms."""
    empty_site.create()
    empty_site.deploy("blue-1", 2, busy=0.002)
    empty_site.route(blue=100)
    return empty_site


@pytest.fixture(scope="module", params=SITES)
def module_site(runtimes, request):
    """As `empty_site`, one for all tests of a file."""
    yield from opened_site(runtimes, request)


@pytest.fixture(scope="session")
def expected():
    """`binomial_bound`, for tests."""
    return binomial_bound


@pytest.fixture(scope="session")
def until():
    """`wait_until`, for tests."""
    return wait_until


@pytest.fixture(scope="session", name="ended")
def ended_():
    """`ended`, for tests."""
    return ended
