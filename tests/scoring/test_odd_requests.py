"""
Odd requests, byte for byte, with the answers of azureml-inference-server-http 1.5.1.

Recorded by asking that server and ours the same; what differs on purpose, or below Python, is not in the file. Ids of
the server's own are `UUID` in it, and times `T`.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

RECORDED = json.loads((Path(__file__).parent / "odd_requests.json").read_text())
LEFT_OUT = {"connection", "content-length", "date", "server", "x-ms-server-version"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def asked(path: Path, request: str) -> tuple[int, list[list[str]], str]:
    received = b""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(request.encode("latin-1"))
        while chunk := client.recv(65536):
            received += chunk
    head, _, body = received.decode("latin-1").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    status = int(first.split(" ")[1])
    headers = [[name.lower(), value.strip()] for name, _, value in (line.partition(":") for line in lines)]
    return status, sorted(normal(status, headers)), body


def normal(status: int, headers: list[list[str]]) -> list[list[str]]:
    """The headers that both servers promise: `allow` is ours where a method is refused, and has no order."""
    kept = []
    for name, value in headers:
        if name in LEFT_OUT or (name == "allow" and status == 405):
            continue
        shown = "T" if name == "x-ms-run-fn-exec-ms" else UUID.sub("UUID", value)
        kept.append([name, str(sorted(value.split(", "))) if name == "allow" else shown])
    return kept


def test_there_are_hundreds():
    assert len(RECORDED["cases"]) > 300


@pytest.mark.parametrize("script", RECORDED["scripts"])
def test_odd_requests_are_answered_as_by_azure(serve, script):
    served = serve(RECORDED["scripts"][script], MODELPORT_EXACT_RESULTS="true")
    for case in RECORDED["cases"]:
        if case["script"] == script:
            status, headers, body = asked(served.uds, case["request"])
            expected = (case["status"], sorted(case["headers"]), case["body"])
            assert (status, headers, body) == expected, case["request"]
