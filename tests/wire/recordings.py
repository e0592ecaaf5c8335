"""The recordings, and requests in the form in which they are compared: without what differs from run to run."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import unquote

from attrs import define, field

HERE = Path(__file__).parent
FILES = sorted(path.stem for path in (HERE / "recorded").glob("*.json"))
OPERATIONS = json.loads((HERE / "wire-sequences.json").read_text(encoding="utf-8"))["operations"]
REGISTRIES = json.loads((HERE / "registry-sequences.json").read_text(encoding="utf-8"))["operations"]
LABELS = [each["label"] for each in OPERATIONS]

_REGISTRY = re.compile(
    r"/mferp/managementfrontend/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+/registries/sea"
)
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|GUID-\d+")
_NOBODY = "00000000-0000-0000-0000-000000000000"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")


def recording(name):
    """What became of one file: its YAML, the files beside it, the body that was PUT."""
    return json.loads((HERE / "recorded" / f"{name}.json").read_text(encoding="utf-8"))


def write_files(name, folder):
    """A recording's YAML, with the files that it names beside it."""
    recorded = recording(name)
    for path, text in recorded.get("files", {}).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        coded = text.startswith("base64:")
        file.write_bytes(base64.b64decode(text.removeprefix("base64:")) if coded else text.encode())
    (folder / "entity.yml").write_text(recorded["yaml"], encoding="utf-8")
    return folder / "entity.yml"


@define
class Asked:
    """A request. `body` is a JSON document, `<4 bytes>`, or None; header names are in lower case."""

    method: str
    url: str
    query: dict = field(factory=dict)
    headers: dict = field(factory=dict)
    body: object = None
    status: int = 0

    @property
    def name(self):
        """For the table of differences: `PUT {WS}/models/net/versions/1`, `PUT /c/a?comp=metadata`."""
        comp = self.query.get("comp")
        return f"{self.method} {self.url}" + (f"?comp={comp}" if comp else "")

    @property
    def is_content(self):
        """Contents of several files travel at once, in any order."""
        return self.method == "PUT" and isinstance(self.body, str) and "comp" not in self.query


def recorded_requests(operation, host):
    """What Azure's client asked."""
    return [
        Asked(
            each["method"],
            each["url"],
            each.get("query", {}),
            {name.lower(): value for name, value in each["headers"].items()},
            json.loads(json.dumps(each.get("body")).replace("https://HOST", host)),
            each["status"],
        )
        for each in operation["requests"]
    ]


def seen_request(seen, workspace):
    """What the stub was asked. Signatures are of the storage account's own making, and were not recorded."""
    mine = seen.path.lower().startswith(str(workspace).lower())
    json_body = seen.headers.get("content-type") == "application/json"
    body = json.loads(seen.body) if json_body and seen.body else f"<{seen.size_bytes} bytes>" if seen.body else None
    return Asked(
        seen.method,
        "{WS}" + seen.path[len(str(workspace)) :] if mine else _REGISTRY.sub("{REG}", unquote(seen.path)),
        {name: value for name, value in seen.query.items() if name not in ("sv", "sig")},
        dict(seen.headers),
        body,
        seen.status,
    )


def comparable(requests, names=None):
    """
    Requests as `settled` documents, contents in the order of their names.

    Args:
        requests: In order.
        names: Which headers are compared; all when None.
    """
    said = []
    for each in _contents_in_order(requests):
        headers = {name: value for name, value in each.headers.items() if names is None or name in names}
        said.append([each.method, each.url, each.query, headers, each.body, each.status])
    return settled(said)


def settled(document):
    """A document with its random ids numbered as they appear, and without its times."""
    ids = {}

    def numbered(found):
        return found[0] if found[0] == _NOBODY else ids.setdefault(found[0], f"GUID-{len(ids) + 1}")

    return json.loads(_GUID.sub(numbered, _TIME.sub("TIME", json.dumps(document))))


def _contents_in_order(requests):
    ordered, contents = [], []
    for each in requests:
        if each.is_content:
            contents.append(each)
            continue
        ordered += sorted(contents, key=lambda content: content.url)
        ordered.append(each)
        contents = []
    return ordered + contents
