"""
Every difference between what Azure's client sends and what Modelport sends: at most eight.

Each is a row of "What Modelport does differently, on purpose" and says the first words
of its left column. A difference that has no such row is a bug.
"""

from copy import deepcopy
from fnmatch import fnmatchcase

from attrs import evolve, frozen

ABSENT = object()
UNROUTES = "re-running a notebook's first cell (a PUT whose traffic is empty) unroutes a live endpoint"
ROUND_TRIP = "get → change → put loses `model_mount_path`, sub-second waits, explicit zeros"
UNCHANGED_CODE = "unchanged code is uploaded on each deploy"
OVERWRITES = "creating an environment without a version overwrites the latest"


@frozen
class Said:
    """Something else, or nothing, stands in the body of a PUT."""

    names: tuple[str, ...]
    """Recordings and labels of sequences."""
    steps: tuple[str, ...]
    theirs: object
    ours: object
    row: str


@frozen
class Asked:
    """Other requests, or none, are made instead."""

    names: tuple[str, ...]
    """Labels of sequences."""
    requests: tuple[str, ...]
    """Patterns of the names of requests."""
    instead: tuple[tuple[str, str, int], ...]
    """Method, URL and status; a PUT has the body that the first of the others had."""
    row: str


TABLE = [
    Said(
        ("endpoint-aadtoken", "endpoint-key-minimal", "endpoint create", "token endpoint create"),
        ("properties", "traffic"),
        {},
        ABSENT,
        UNROUTES,
    ),
    Said(
        (
            "endpoint-aadtoken",
            "endpoint-key-full",
            "endpoint-key-minimal",
            "endpoint-kubernetes",
            "endpoint create",
            "token endpoint create",
        ),
        ("properties", "mirrorTraffic"),
        {},
        ABSENT,
        UNROUTES,
    ),
    Said(("deployment-managed-probes",), ("properties", "requestSettings", "maxQueueWait"), ABSENT, "PT0S", ROUND_TRIP),
    Said(
        ("update traffic",),
        ("properties", "properties"),
        {
            "createdBy": "me",
            "createdAt": "2026-11-22T07:50:36.566653+0000",
            "lastModifiedAt": "2026-11-22T07:50:36.566717+0000",
        },
        {},
        ROUND_TRIP,
    ),
    Asked(
        ("deployment create again, unchanged assets",),
        ("POST *startPendingUpload", "* /code-*", "PUT {WS}/codes/*"),
        (),
        UNCHANGED_CODE,
    ),
    Asked(
        ("environment create, no version",),
        ("PUT {WS}/environments/envy/versions/1",),
        (("GET", "{WS}/environments/envy/versions/1", 200), ("PUT", "{WS}/environments/envy/versions/2", 201)),
        OVERWRITES,
    ),
]


def changed_body(name, body):
    """A recorded body as Modelport sends it."""
    body = deepcopy(body)
    for each in TABLE:
        if isinstance(each, Said) and name in each.names:
            holder = body
            for step in each.steps[:-1]:
                holder = holder[step]
            assert holder.get(each.steps[-1], ABSENT) == each.theirs, f"{name} has no such difference: {each}"
            holder.pop(each.steps[-1], None)
            if each.ours is not ABSENT:
                holder[each.steps[-1]] = each.ours
    return body


def changed(name, requests):
    """A recorded sequence as Modelport makes it."""
    for row in TABLE:
        if isinstance(row, Asked) and name in row.names:
            requests = _other(row, requests)
    last = max((n for n, each in enumerate(requests) if each.method == "PUT"), default=None)
    if last is not None and isinstance(requests[last].body, dict):
        requests[last].body = changed_body(name, requests[last].body)
    return requests


def _other(row, requests):
    theirs = [each for each in requests if any(fnmatchcase(each.name, pattern) for pattern in row.requests)]
    for pattern in row.requests:
        assert any(fnmatchcase(each.name, pattern) for each in theirs), f"{row.names} have no {pattern}"
    first, position = theirs[0], requests.index(theirs[0])
    instead = []
    for method, url, status in row.instead:
        said = {"method": method, "url": url, "status": status}
        if method == "GET":
            headers = {key: value for key, value in first.headers.items() if key != "content-type"}
            said |= {"body": None, "headers": headers}
        instead.append(evolve(first, **said))
    rest = [each for each in requests if each not in theirs]
    return [*rest[:position], *instead, *rest[position:]]
