"""
What the gateway adds to a request at one kept connection, against the replica asked directly on its socket.

Beside it stands a bare Envoy before the same replica, with one route and no keys, limits or names: what it adds is the
price of the proxy on this machine, and the difference is the price of what we ask of it.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import peers
from deploy import deployment

from modelport.entities import EndpointAuthKeys, ManagedOnlineEndpoint
from modelport.gateway.runner import _binary
from modelport.testing import workspace

REQUESTS, ROUNDS = 2000, 9
BODY = json.dumps({"data": [[0.5] * 10]}).encode()
HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def median_us(connection: socket.socket, path: str, *headers: str) -> Callable[[], float]:
    """Requests with as little client as can be: one write, and reads until the answer is whole."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(BODY)}", *headers, "", ""]
    request = "\r\n".join(lines).encode() + BODY

    def run() -> float:
        seen = []
        for _ in range(REQUESTS):
            begin = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(65536)
            while not answer.endswith(b'\r\n\r\n"blue"'):
                answer += connection.recv(65536)
            seen.append((time.perf_counter() - begin) * 1e6)
            assert answer.startswith(b"HTTP/1.1 200 ")
        return statistics.median(seen)

    return run


@contextmanager
def bare_envoy(folder: Path, replica: Path) -> Iterator[int]:
    """The port of an Envoy with nothing but one route to the replica."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    host = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "replica"}}]}]}  # fmt: skip
    manager = {"@type": HTTP, "stat_prefix": "bare", "route_config": host,
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}  # fmt: skip
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(replica)}}}}
    load = {"cluster_name": "replica", "endpoints": [{"lb_endpoints": [endpoint]}]}
    document = {"static_resources": {
        "listeners": [{"name": "bare", "address": address, "filter_chains": [chain]}],
        "clusters": [{"name": "replica", "type": "STATIC", "load_assignment": load}]}}  # fmt: skip
    file = folder / "bare.json"
    file.write_text(json.dumps(document))
    command = [_binary(), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
    process = subprocess.Popen(command)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def connected(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        try:
            connection = socket.create_connection((host, port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mp-") as folder, workspace() as client:
        endpoint = ManagedOnlineEndpoint(name="tides")
        client.online_endpoints.begin_create_or_update(endpoint).result()
        wanted = deployment(Path(folder), "blue")
        wanted.instance_count = 1
        client.online_deployments.begin_create_or_update(wanted).result()
        endpoint.traffic = {"blue": 100}
        made = client.online_endpoints.begin_create_or_update(endpoint).result()
        keys = client.online_endpoints.get_keys("tides")
        assert isinstance(keys, EndpointAuthKeys)
        assert made.scoring_uri
        (replica,) = client._service.transport.opened.home.runtime.glob("r/*/s")
        where = urlsplit(made.scoring_uri)
        with bare_envoy(Path(folder), replica) as port, socket.socket(socket.AF_UNIX) as direct:
            direct.connect(str(replica))
            with connected(str(where.hostname), int(where.port or 0)) as ours, connected("127.0.0.1", port) as bare:
                found = peers.alternating(
                    ROUNDS,
                    direct=median_us(direct, "/score"),
                    ours=median_us(ours, where.path, f"Authorization: Bearer {keys.primary_key}"),
                    bare=median_us(bare, "/score"),
                )
    print(", ".join(f"{name} {value:.0f} µs" for name, value in found.items()))
    adds = {name: found[name] - found["direct"] for name in ("ours", "bare")}
    peers.verdict("what the gateway adds, of what a bare Envoy adds", adds["ours"] / adds["bare"], 1.25)
    return 0 if peers.verdict("the gateway adds", adds["ours"], 200, "µs") else 1


if __name__ == "__main__":
    sys.exit(main())
