"""What the gateway adds to a request at one kept connection, against the replica asked directly on its socket."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import peers
from deploy import deployment

from modelport.entities import EndpointAuthKeys, ManagedOnlineEndpoint
from modelport.testing import workspace

REQUESTS = 2000
BODY = json.dumps({"data": [[0.5] * 10]}).encode()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def median_us(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> Callable[[], float]:
    def run() -> float:
        seen = []
        for _ in range(REQUESTS):
            begin = time.perf_counter()
            connection.request("POST", path, BODY, headers)
            answer = connection.getresponse()
            text = answer.read()
            seen.append((time.perf_counter() - begin) * 1e6)
            assert (answer.status, text) == (200, b'"blue"')
        return statistics.median(seen)

    return run


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
        home = client._service.transport.opened.home
        (replica,) = home.runtime.glob("r/*/s")
        where = urlsplit(made.scoring_uri)
        gateway = http.client.HTTPConnection(where.hostname, where.port)
        found = peers.alternating(
            7,
            direct=median_us(UnixConnection(str(replica)), "/score", {}),
            gateway=median_us(gateway, where.path, {"Authorization": f"Bearer {keys.primary_key}"}),
        )
        gateway.close()
    print(f"direct {found['direct']:.0f} µs, through the gateway {found['gateway']:.0f} µs")
    return 0 if peers.verdict("the gateway adds", found["gateway"] - found["direct"], 200, "µs") else 1


if __name__ == "__main__":
    sys.exit(main())
