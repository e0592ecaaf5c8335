"""Real Envoys before real replicas, callers that check every answer, and nothing left behind."""

import http.client
import json
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from modelport.gateway.routes import Deployment, Endpoint
from modelport.gateway.runner import Gateway

REPLICA = Path(__file__).with_name("replica.py")
Replica = runpy.run_path(str(REPLICA))["Replica"]


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def replica(folder):
    """Starts a replica in this process, by name."""
    replicas = []

    def start(name):
        made = Replica(folder / f"{name}.sock")
        thread = threading.Thread(target=made.serve)
        thread.start()
        replicas.append((made, thread))
        return made

    yield start
    for made, thread in replicas:
        made.go_on.set()
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.fixture
def replica_process(folder):
    """Starts a replica as a process that can be killed; returns the process and its address."""
    processes = []

    def start(name):
        address = str(folder / f"{name}.sock")
        process = subprocess.Popen([sys.executable, str(REPLICA), address], stdout=subprocess.PIPE)
        processes.append(process)
        assert json.loads(process.stdout.readline())["listens"] == address
        return process, address

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def open_gateway(folder):
    """Starts a gateway in a folder of its own."""
    gateways = []

    def start(name="gw", port=None):
        gateway = Gateway(folder / name, port)
        gateways.append(gateway)
        gateway.start()
        return gateway

    yield start
    for gateway in gateways:
        gateway.stop(drain_seconds=0)


@pytest.fixture
def gateway(open_gateway):
    return open_gateway()


@pytest.fixture
def endpoint():
    """Makes the endpoint `tides` from its deployments: `endpoint(blue=[replica], traffic={"blue": 100})`."""

    def make(
        *, name="tides", keys=("key-1", "key-2"), traffic=None, mirror=None, timeout=60.0, scoring=None, **deployments
    ):
        timeouts = timeout if isinstance(timeout, dict) else dict.fromkeys(deployments, timeout)
        return Endpoint(
            name=name,
            keys=keys,
            traffic=traffic or {},
            mirror=mirror or {},
            deployments={
                deployment: Deployment(
                    addresses=tuple(getattr(one, "address", one) for one in replicas),
                    timeout=timeouts[deployment],
                    scoring=(scoring or {}).get(deployment),
                )
                for deployment, replicas in deployments.items()
            },
        )

    return make


@pytest.fixture
def call():
    """One request on a connection of its own: `call(uri, b"body")` has `status`, `headers`, `body`, `error`."""

    def ask(uri, body=b"hello", *, method="POST", key="key-1", timeout=30, **headers):
        url = urlsplit(uri)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            said["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, url.path + (f"?{url.query}" if url.query else ""), body, said)
            return _answer(connection.getresponse())
        finally:
            connection.close()

    return ask


def _answer(response):
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    error = json.loads(body)["error"] if headers.get("content-type") == "application/json" else None
    return SimpleNamespace(status=response.status, headers=headers, body=body, error=error)


class Load:
    """Callers that go on until told to stop, on kept connections and on fresh ones; each answer is checked."""

    def __init__(self, uri, callers=4, body="n"):
        self._url = urlsplit(uri)
        self._body = body
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]
        self.answered = 0
        self.failed = []
        self.begun = {}
        """Body → when its request began."""

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more):
        """Until `more` requests have been answered from now on."""
        goal = self.answered + more
        deadline = time.monotonic() + 60
        while self.answered < goal:
            assert time.monotonic() < deadline, f"only {self.answered} of {goal} answered; failed: {self.failed[:3]}"
            time.sleep(0.005)

    def _call(self, number):
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=60)
        count = 0
        while not self._stop.wait(0.004):
            count += 1
            body = f"{self._body} {number}.{count}" if self._body == "n" else self._body
            self.begun[body.encode()] = time.monotonic()
            try:
                connection.request("POST", self._url.path, body, {"Authorization": "Bearer key-1"})
                response = connection.getresponse()
                answer = response.read().decode()
                if response.status != 200 or answer.partition(":")[2] != body:
                    self.failed.append((response.status, answer))
            except (OSError, http.client.HTTPException) as error:
                self.failed.append((None, repr(error)))
                connection.close()
            self.answered += 1
            if number % 2:
                connection.close()
        connection.close()


@pytest.fixture
def load():
    return Load
