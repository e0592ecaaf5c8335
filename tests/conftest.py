"""What tests of every folder share: short folders, scoring scripts that say who they are, and what deploys them."""

import contextlib
import os
import shutil
import tempfile
import time
import types
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from tests.stub import certificate
from tests.stub.azure import AzureStub

from modelport import MLClient, engine, errors
from modelport.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    OnlineRequestSettings,
    ProbeSettings,
)
from modelport.testing import workspace

# The same examples on every machine, few enough for seconds (decision 30).
settings.register_profile(
    "bounded",
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("bounded")

BASE = "modelport-test/base:bookworm"


def pytest_terminal_summary(terminalreporter):
    """Print what a test had to tell with `record_property("told", …)`: a green run too says what it covered."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(value)


SCRIPT = """
import json, os, pathlib, socket, time

PID = socket.gethostname() if os.path.isdir("/run/modelport") else os.getpid()

def init():
    if PID == os.getpid():
        pathlib.Path(os.environ["STARTS"], str(PID)).touch()

def run(raw_data):
    said = json.loads(raw_data)
    if isinstance(said, dict) and "sleep" in said:
        time.sleep(said["sleep"])
    if isinstance(said, dict) and "raise" in said:
        raise ValueError(said["raise"])
    return {"who": os.environ["WHO"], "pid": PID, "said": said}
"""


class Sources:
    """A folder of scoring scripts, and of notes that their replicas leave when they start."""

    def __init__(self, folder, environment=None):
        self._folder, self._environment = folder, environment
        self.starts = folder / "starts"
        self.starts.mkdir()

    def code(self, script=SCRIPT, **files):
        """A new code folder with this `score.py`."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "score.py").write_text(script)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        return str(folder)

    def deployment(self, name="blue", endpoint="tides", *, script=SCRIPT, **values):
        """A deployment that answers with its name, ready for `begin_create_or_update`."""
        values.setdefault("code_configuration", CodeConfiguration(code=self.code(script), scoring_script="score.py"))
        values.setdefault("instance_count", 1)
        values.setdefault("environment", self._environment)
        for probe in ("readiness_probe", "liveness_probe"):
            values.setdefault(probe, ProbeSettings(initial_delay=2, period=1, failure_threshold=58))
        values.setdefault("request_settings", OnlineRequestSettings(request_timeout_ms=60_000))
        variables = {"WHO": name, "STARTS": str(self.starts), **values.pop("environment_variables", {})}
        return ManagedOnlineDeployment(name=name, endpoint_name=endpoint, environment_variables=variables, **values)

    def started(self):
        """Process ids of all replicas that ever got through `init()`."""
        return {int(each.name) for each in self.starts.iterdir()}

    def alive(self):
        """Those that still run."""
        return {pid for pid in self.started() if _runs(pid)}


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def runs():
    """Whether a process runs; one that ended and waits to be collected does not."""
    return _runs


@pytest.fixture
def sources(tmp_path):
    return Sources(tmp_path)


@pytest.fixture
def short_folder():
    """A folder whose path leaves room for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def until():
    """Wait for a condition, and return what it returned."""

    def wait(condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition did not come about"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture(scope="session")
def docker_engine():
    """A client of this machine's Docker, which has the image `modelport-test/base:bookworm` (decision 26)."""
    try:
        client = engine.connect()
    except errors.DockerEngineNotAvailableError as error:
        missing = f"{error.message} These tests need it: run tests/tools/docker-up."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    yield client
    client.close()


@pytest.fixture
def tides(ml_client):
    """A client whose workspace has the endpoint `tides`, without deployments."""
    ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="tides")).result(60)
    return ml_client


@contextlib.contextmanager
def lived_in(folder, backend="process"):
    """A client with `tides`, whose `blue` has all the traffic and whose `green` has none."""
    sources = Sources(folder, Environment(image=BASE) if backend == "docker" else None)
    with workspace(backend=backend) as client:
        endpoint = ManagedOnlineEndpoint(name="tides", tags={"team": "harbour"})
        client.online_endpoints.begin_create_or_update(endpoint).result(60)
        for each in [
            client.online_deployments.begin_create_or_update(sources.deployment(n)) for n in ("blue", "green")
        ]:
            each.result(120)
        endpoint.traffic = {"blue": 100}
        client.online_endpoints.begin_create_or_update(endpoint).result(60)
        yield client


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """For tests that only read: as `lived_in`."""
    with lived_in(tmp_path_factory.mktemp("live")) as client:
        yield client


@pytest.fixture(scope="session")
def _stub_certificates(tmp_path_factory):
    return certificate.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def azure_stub(_stub_certificates):
    """A stand-in for Azure on loopback, over https; see `tests/stub`."""
    with AzureStub(certificates=_stub_certificates) as stub:
        yield stub


class StaticToken:
    """A credential, as azure-identity's are, that gives what it was told to."""

    def __init__(self, token="faketoken", seconds=3600):
        self.token, self.seconds = token, seconds

    def get_token(self, *scopes, **_):
        return types.SimpleNamespace(token=self.token, expires_on=int(time.time() + self.seconds))


def client_of(stub, credential=None, **keywords):
    """A client of `stub`; keywords go to `MLClient`."""
    names, cloud = stub.workspace, dict.fromkeys(("resource_manager", "active_directory", "aml_resource_id"), stub.url)
    cloud |= {"storage_endpoint": "core.windows.net", "registry_discovery_endpoint": f"{stub.url}/"}
    said = {"cloud": "Stub", "cloud_metadata": cloud, "connection_verify": str(stub.ca), **keywords}
    where = () if "registry_name" in keywords else (names.subscription, names.group, names.name)
    return MLClient(credential or StaticToken(), *where, **said)


@pytest.fixture
def azure_client(azure_stub):
    """Makes clients of `azure_stub`; keywords go to `MLClient`. Their connections are closed in the end."""
    made = []

    def make(*arguments, **keywords):
        made.append(client_of(azure_stub, *arguments, **keywords))
        return made[-1]

    yield make
    for each in made:
        if "_service" in vars(each):
            each._service.transport.close()


@pytest.fixture(scope="module")
def module_azure(_stub_certificates):
    """For tests whose calls follow on each other: a stub for all of them, and what makes its clients."""
    with AzureStub(certificates=_stub_certificates) as stub:
        yield stub, partial(client_of, stub)


@pytest.fixture(scope="session", autouse=True)
def _no_surroundings():
    """Nothing of this machine's own Modelport has a say in tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MODELPORT_") and "TEST" not in name]:
            patch.delenv(name)
        yield
