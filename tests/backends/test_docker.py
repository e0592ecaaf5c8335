"""The contract of backends, kept by containers; and what only containers have."""

import contextlib
import http.client
import ipaddress
import json
import re
import shutil
import socket
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
from attrs import evolve
from tests.contracts.backend import BackendContract, ask, eventually

from modelport import engine, errors
from modelport.backends import open_backend
from modelport.backends.base import Probe, Route, Routes
from modelport.backends.docker import prune, workspace_mark
from modelport.backends.probes import connections
from modelport.backends.records import Record

BASE = "modelport-test/base:bookworm"

LOOKS = """
import os, pathlib
def init():
    pass
def can_write(folder):
    try:
        (pathlib.Path(folder) / "mark").touch()
        return True
    except OSError:
        return False
def run(body):
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    model = os.environ["AZUREML_MODEL_DIR"]
    return {
        "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "cwd": os.getcwd(), "model": model,
        "writes": {each: can_write(each) for each in ("/", "/etc", os.getcwd(), model, "/tmp")},
        "weights": open(model + "/weights").read(), "docker": os.path.exists("/var/run/docker.sock"),
    }
"""

CALLS = """
import json, socket
def init():
    pass
def run(body):
    host, port = json.loads(body)["call"]
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            called = connection.recv(100).decode()
    except OSError as error:
        called = str(error)
    return {"scored": 42, "called": called}
"""

SHELL_SERVER = r"""
import http.server, json, os, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path in ("/v2/health/live", "/v2/health/ready")
        self.reply(200 if good else 404, b"")
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.reply(200, json.dumps({"path": self.path, "tide": os.environ.get("TIDE")}).encode())
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
for port in (8000, 8001):
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Answer)
    threading.Thread(target=server.serve_forever).start()
"""


class TestContainers(BackendContract):
    name = "docker"

    @pytest.fixture
    def runtime(self, built_image):
        return {"image": built_image.image, "python": built_image.python}

    @pytest.fixture
    def options(self, docker_engine):
        self.client = docker_engine
        folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        yield {"folder": folder / "run", "logs": folder / "logs"}
        left = self.containers({"folder": folder / "run"})
        for each in left:
            each.remove(force=True)
        networks = docker_engine.networks.list(filters=self.ours({"folder": folder / "run"}))
        for each in networks:
            each.remove()
        shutil.rmtree(folder)
        assert (left, networks) == ([], [])

    @pytest.fixture
    def shell_server(self, docker_engine, tmp_path):
        """Id of an image that brings a server of its own, which has two ports."""
        (context := tmp_path / "context").mkdir()
        (context / "server.py").write_text(SHELL_SERVER)
        (context / "Dockerfile").write_text(f'FROM {BASE}\nCOPY server.py /\nCMD ["python3", "/server.py"]\n')
        image, _ = docker_engine.images.build(path=str(context), rm=True)
        yield image.id
        with contextlib.suppress(docker.errors.APIError):  # still used, by a replica that is removed after this
            docker_engine.images.remove(image.id, force=True)

    @pytest.fixture
    def outside(self, docker_engine):
        """Host and port of a server that says hello, on a network of its own: the world, to a replica."""
        speaks = (
            "import socket\nserver = socket.create_server(('0.0.0.0', 9000))\n"
            "while True:\n    accepted, _ = server.accept()\n    accepted.sendall(b'hello')\n    accepted.close()\n"
        )
        subnet = docker_engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
        gateway = str(ipaddress.ip_network(subnet)[1])
        world = docker_engine.containers.run(
            BASE, ["python3", "-c", speaks], detach=True, ports={"9000/tcp": (gateway, None)}
        )
        try:
            world.reload()
            port = int(world.attrs["NetworkSettings"]["Ports"]["9000/tcp"][0]["HostPort"])

            def speaks_up():
                with contextlib.suppress(OSError), socket.create_connection((gateway, port), timeout=1) as connection:
                    return connection.recv(10) == b"hello"

            eventually(speaks_up)
            yield [gateway, port]
        finally:
            world.remove(force=True)

    @staticmethod
    def ours(options):
        return {"label": f"{engine.WORKSPACE}={workspace_mark(options['folder'])}"}

    def containers(self, options, **filters):
        return self.client.containers.list(all=True, filters={**self.ours(options), **filters}, ignore_removed=True)

    def container(self, replica, options):
        (found,) = [each for each in self.containers(options) if each.labels["modelport.replica"] == replica.id]
        return found

    def kill(self, replica, options):
        self.container(replica, options).kill()

    def freeze(self, replica, options):
        self.container(replica, options).pause()

    def thaw(self, replica, options):
        self.container(replica, options).unpause()

    def running(self, options):
        return len(self.containers(options, status="running")) + len(self.containers(options, status="paused"))

    # what a container may do

    def test_a_replica_is_nobody_in_a_system_that_it_cannot_change(self, backend, revision, options, tmp_path):
        (tmp_path / "model").mkdir(mode=0o700)
        (tmp_path / "model" / "weights").write_text("7")
        (tmp_path / "model" / "weights").chmod(0o600)
        wanted = revision(LOOKS, model_dir=str(tmp_path / "model"), model_mount="/var/azureml-app/azureml-models/m/1")
        Path(wanted.app_root).chmod(0o700)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        seen = ask(replica.address)
        assert seen["uid"] != 0
        assert seen["capabilities"] == 0
        assert seen["weights"] == "7"
        assert seen["writes"] == {"/": False, "/etc": False, seen["cwd"]: False, seen["model"]: False, "/tmp": True}
        assert not seen["docker"]
        host = self.container(replica, options).attrs["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert stat.S_IMODE(options["folder"].stat().st_mode) == 0o700

    def test_what_azures_scripts_look_for_is_where_azure_has_it(self, backend, revision, options, tmp_path):
        (tmp_path / "model").mkdir()
        wanted = revision(model_dir=str(tmp_path / "model"), model_mount="/var/azureml-app/azureml-models/m/1")
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        said = {name: ask(replica.address, variable=name)["variable"] for name in ("AZUREML_MODEL_DIR", "AML_APP_ROOT")}
        assert said["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models/m/1"
        assert said["AML_APP_ROOT"] == f"/var/azureml-app/{Path(wanted.app_root).name}"
        labels = self.container(replica, options).labels
        assert (labels["endpoint"], labels["deployment"]) == ("tides", "blue")

    def test_without_egress_calling_out_fails_and_scoring_works(self, backend, revision, outside):
        kept, open_ = revision(CALLS, egress=False), revision(CALLS, id="tides-green-1")
        for each in (kept, open_):
            backend.apply(each)
        [inside], [free] = self.ready(backend, kept), self.ready(backend, open_)
        assert ask(free.address, call=outside)["called"] == "hello"
        answer = ask(inside.address, call=outside)
        assert answer["scored"] == 42
        assert re.search("unreachable|timed out", answer["called"])
        backend.remove(kept.id)
        assert ask(free.address, call=outside)["called"] == "hello"

    def test_cores_and_memory_are_what_was_asked_for(self, backend, revision, options):
        wanted = revision(cpus=1, memory_bytes=300 * 2**20)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        host = self.container(replica, options).attrs["HostConfig"]
        assert (host["NanoCpus"], host["Memory"]) == (10**9, 300 * 2**20)

    def test_a_replica_that_takes_too_much_memory_is_told_from_one_that_crashed(self, backend, revision):
        wanted = revision("def init():\n    global x\n    x = bytearray(400 * 2**20)\ndef run(b):\n    return 1\n")
        wanted = evolve(wanted, memory_bytes=100 * 2**20)
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert "ran out of memory" in failure.message
        assert "0.0976562 GiB" in failure.message

    def test_gpus_that_are_not_there_are_a_failure_that_says_so(self, backend, revision):
        wanted = revision(gpus=True)
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert failure.code == "LocalDeploymentGPUNotAvailable"
        assert "Docker has none to give" in failure.message

    def test_an_image_that_is_gone_is_a_failure_that_names_it(self, backend, revision):
        wanted = revision(image="modelport-test/nowhere:1")
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert failure.code == "ImageBuildFailure"
        assert "Image 'modelport-test/nowhere:1' is not in Docker any more. Update the deployment" in failure.message
        eventually(lambda: "modelport-test/nowhere:1" in backend.logs(wanted.id, 5))

    # how a container is reached

    def test_where_containers_have_no_address_here_ports_are_published_on_loopback(self, options, revision):
        backend = open_backend("docker", **options, reach="port")
        wanted = revision(instances=2)
        try:
            backend.apply(wanted)
            replicas = self.ready(backend, wanted)
            assert all(each.address.startswith("127.0.0.1:") for each in replicas)
            assert len({ask(each.address)["token"] for each in replicas}) == 2
            with ThreadPoolExecutor() as pool:  # what is inside is seen through the published port too
                answer = pool.submit(ask, replicas[0].address, sleep=1.5)
                eventually(lambda: not answer.done() and connections(replicas[0].address))
                backend.remove(wanted.id)
                assert answer.result()["token"]
        finally:
            backend.remove(wanted.id)
            backend.close()

    def test_a_server_of_ones_own_is_asked_at_its_own_ports_and_routes(self, backend, revision, options, shell_server):
        routes = Routes(
            liveness=Route(port=8000, path="/v2/health/live"),
            readiness=Route(port=8000, path="/v2/health/ready"),
            scoring=Route(port=8001, path="/"),
        )
        wanted = evolve(revision(), python="", image=shell_server, routes=routes, environment_variables={"TIDE": "low"})
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        assert replica.address.endswith(":8001")
        with contextlib.closing(http.client.HTTPConnection(replica.address, timeout=10)) as connection:
            connection.request("POST", "/v2/models/tide/infer", b"{}")
            assert json.loads(connection.getresponse().read()) == {"path": "/v2/models/tide/infer", "tide": "low"}
        host = self.container(replica, options).attrs["HostConfig"]
        assert "SYS_CHROOT" not in (host["CapAdd"] or [])
        assert host["CapDrop"] == ["ALL"]

    def test_a_server_of_ones_own_that_is_not_ready_is_told_where_it_was_asked(self, backend, revision, shell_server):
        there, nowhere = Route(port=8000, path="/"), Route(port=8009, path="/ready")
        routes = Routes(liveness=there, readiness=nowhere, scoring=there)
        probe = Probe(initial_delay=0, period=1, failure_threshold=2)
        wanted = evolve(revision(), python="", image=shell_server, routes=routes, readiness=probe)
        backend.apply(wanted)
        message = self.failure(backend, wanted).message
        assert "the last probe saw connection refused. It was asked for '/ready' at port 8009" in message

    @staticmethod
    @contextlib.contextmanager
    def checked(docker_engine, loads=0):
        """Id of an image whose server is well as long as a file is there, and which says how to see that."""
        server = (
            f"from http.server import *; import os, time; time.sleep({loads}); os.chdir('/tmp'); "
            "open('/tmp/well', 'w').close(); "
            "ThreadingHTTPServer(('0.0.0.0', 8000), SimpleHTTPRequestHandler).serve_forever()"
        )
        check = "HEALTHCHECK --interval=1s --retries=2 CMD test -e /tmp/well || { echo it is ill; exit 1; }"
        made = docker_engine.containers.create(BASE, ["python3", "-c", server])
        try:
            image = made.commit(changes=f"CMD {json.dumps(['python3', '-c', server])}\n{check}")
        finally:
            made.remove()
        yield image.id
        docker_engine.images.remove(image.id, force=True)

    @pytest.fixture
    def checked_image(self, docker_engine):
        with self.checked(docker_engine) as image:
            yield image

    @pytest.fixture
    def slow_checked_image(self, docker_engine):
        with self.checked(docker_engine, loads=5) as image:
            yield image

    def test_a_check_that_an_image_declares_ends_a_container_that_fails_it(
        self, checked_image, backend, revision, options
    ):
        routes = Routes(**dict.fromkeys(("liveness", "readiness", "scoring"), Route(port=8000, path="/")))
        wanted = evolve(revision(), python="", image=checked_image, routes=routes)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        self.container(replica, options).exec_run(["rm", "/tmp/well"])
        failure = self.failure(backend, wanted)
        assert "HEALTHCHECK of its image says that it is unhealthy: it is ill" in failure.message
        self.ready(backend, wanted)

    def test_a_check_that_fails_while_a_server_loads_does_not_end_it(
        self, slow_checked_image, backend, revision, options
    ):
        routes = Routes(**dict.fromkeys(("liveness", "readiness", "scoring"), Route(port=8000, path="/")))
        wanted = evolve(revision(), python="", image=slow_checked_image, routes=routes)
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        healthy = eventually(lambda: self.container(replica, options).attrs["State"]["Health"]["Status"] == "healthy")
        assert healthy
        assert backend.replicas(wanted.id)[0].restarts == 0

    # what fate does

    def test_what_cannot_be_mounted_is_a_failure_and_can_be_removed(self, backend, revision, tmp_path):
        wanted = revision(model_dir=str(tmp_path / "nowhere"), model_mount="/var/azureml-app/azureml-models/m/1")
        backend.apply(wanted)
        failure = self.failure(backend, wanted)
        assert "could not be started" in failure.message
        assert "nowhere" in failure.message
        backend.remove(wanted.id)
        assert backend.revisions() == set()

    def test_a_container_that_puts_something_else_in_the_place_of_its_word_is_not_waited_for(self, backend, revision):
        wanted = revision(
            "import os\nos.mkfifo('/run/modelport/other')\nos.rename('/run/modelport/other', "
            "'/run/modelport/failure.json')\nos._exit(4)\n"
        )
        backend.apply(wanted)
        assert "exit code 4" in self.failure(backend, wanted).message
        backend.remove(wanted.id)

    def test_an_end_that_comes_while_the_start_is_written_down_is_seen(self, backend, revision, monkeypatch):
        save = Record.save

        def slowly(record, path):
            threading.Event().wait(0.3)  # as a busy disk may
            save(record, path)

        monkeypatch.setattr(Record, "save", slowly)
        wanted = revision("import os\nos._exit(3)\n")
        backend.apply(wanted)
        assert "exit code 3" in self.failure(backend, wanted).message

    def test_a_container_that_somebody_removed_is_made_again(self, backend, revision, options):
        wanted = revision()
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        token = ask(replica.address)["token"]
        self.container(replica, options).remove(force=True)
        eventually(lambda: backend.replicas(wanted.id)[0].restarts == 1)
        [again] = self.ready(backend, wanted)
        assert ask(again.address)["token"] != token

    def test_a_container_that_was_taken_off_its_network_is_made_again(self, backend, revision, options, docker_engine):
        wanted = revision()
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        token = ask(replica.address)["token"]
        container = self.container(replica, options)
        (network,) = container.attrs["NetworkSettings"]["Networks"]
        docker_engine.networks.get(network).disconnect(container, force=True)
        container.kill()
        eventually(lambda: backend.replicas(wanted.id)[0].restarts == 1)
        [again] = self.ready(backend, wanted)
        assert ask(again.address)["token"] != token
        assert len(self.containers(options)) == 1

    def test_a_container_that_was_made_and_not_recorded_is_replaced(self, options, revision, dead_owner, request):
        dead_owner(wanted := revision())
        [record] = options["folder"].glob("*/replica.json")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"container": None}))
        backend = request.getfixturevalue("backend")
        backend.apply(wanted)
        self.ready(backend, wanted)
        assert len(self.containers(options)) == 1

    def test_without_its_folder_a_container_is_found_by_its_labels(self, options, revision, dead_owner, request):
        dead_owner(wanted := revision(environment_variables={"TIDE": "high"}))
        shutil.rmtree(options["folder"])
        backend = request.getfixturevalue("backend")
        assert backend.revisions() == {wanted.id}
        backend.apply(wanted)
        [replica] = self.ready(backend, wanted)
        assert ask(replica.address, variable="TIDE")["variable"] == "high"
        assert backend.replicas(wanted.id)[0].restarts == 0

    def test_nothing_that_is_not_ours_is_touched(self, options, revision, request, docker_engine):
        stranger = docker_engine.containers.run(BASE, ["sleep", "600"], detach=True, labels={engine.KIND: "replica"})
        try:
            backend = request.getfixturevalue("backend")
            backend.apply(wanted := revision())
            self.ready(backend, wanted)
            backend.remove(wanted.id)
            prune()
            stranger.reload()
            assert stranger.status == "running"
        finally:
            stranger.remove(force=True)

    def test_after_a_removal_nothing_of_ours_is_left_in_docker(self, backend, revision, options, docker_engine):
        wanted = revision(instances=2)
        backend.apply(wanted)
        self.ready(backend, wanted)
        assert len(docker_engine.networks.list(filters=self.ours(options))) == 1
        backend.remove(wanted.id)
        assert self.containers(options) == []
        assert docker_engine.networks.list(filters=self.ours(options)) == []
        assert [each for each in options["folder"].iterdir() if each.is_dir()] == []

    def test_what_a_workspace_that_is_gone_left_is_pruned(self, options, revision, dead_owner, docker_engine):
        dead_owner(revision())
        prune()
        assert self.running(options) == 1
        folder = options["folder"].rename(options["folder"].with_name("elsewhere"))
        try:
            assert len(prune()) == 1
            assert self.running(options) == 0
            assert docker_engine.networks.list(filters=self.ours(options)) == []
        finally:
            folder.rename(options["folder"])


def test_an_engine_that_is_away_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    with pytest.raises(
        errors.DockerEngineNotAvailableError, match=r"does not answer at '.*nowhere.sock': start it, or"
    ):
        open_backend("docker", folder=tmp_path, logs=tmp_path)


def test_an_engine_on_another_machine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://docker.example.com:2376")
    with pytest.raises(errors.DockerEngineNotAvailableError, match="is on another machine"):
        open_backend("docker", folder=tmp_path, logs=tmp_path)
