"""What people are told who want to attach a debugger. Pure, as `plan` is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from modelport.backends.base import Replica, Revision
from modelport.entities import OnlineDeployment, here


def notes(deployment: OnlineDeployment, revision: Revision, replicas: Sequence[Replica]) -> list[str]:
    """For each replica where its debugger listens, with what VS Code's `launch.json` needs; or that there is none."""
    if not revision.debug:
        return []
    folder = here.of(deployment).code_folder or "${workspaceFolder}"
    found = [_note(each, deployment, folder) for each in replicas if each.debugger]
    return found or ["debug is recorded, not acted on: the image's own server runs, or the log says what is missing."]


def _note(replica: Replica, deployment: OnlineDeployment, folder: str) -> str:
    assert replica.debugger
    host, _, port = replica.debugger.address.rpartition(":")
    attach = {
        "name": f"{deployment.endpoint_name}/{deployment.name}: {replica.id}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": host, "port": int(port)},
        "pathMappings": [{"localRoot": folder, "remoteRoot": replica.debugger.app_root}],
    }
    return (
        f"The debugger of replica '{replica.id}' listens on {replica.debugger.address}. A configuration for VS Code's "
        f"launch.json:\n{json.dumps(attach, indent=4)}"
    )
