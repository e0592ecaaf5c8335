"""
`vscode_debug=True`: a deployment as a dev container, in which VS Code runs and debugs its script.

It is the container that a replica has, with two differences: the code is the user's own
folder instead of a copy, so that what is edited there is what runs; and the scoring server
is started by debugpy, which waits for the editor before init() runs. Replicas that serve
are others, and are not disturbed.

What VS Code is told stands in one file, in a folder of the workspace's own: nothing is
put beside the user's code, which would be sent with it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelport.entities import OnlineDeployment
from modelport.errors import VSCodeCommandNotFound
from modelport.operations.base import Service

DEBUG_PORT, SCORING_PORT = 5678, 5001
"""Where debugpy waits, and the scoring server listens, in the container."""

LOG = "/tmp/modelport-scoring.log"  # noqa: S108 (the container's own)
"""Where the container has the scoring server's log."""


def written(docker: Service, deployment: OnlineDeployment, code: Path) -> tuple[Path, str]:
    """
    Write the dev container of a deployment that serves.

    Args:
        docker: Docker's workspace.
        deployment: Which one.
        code: Its code, where the user edits it.

    Returns:
        The folder that VS Code opens in a container, and where the container has the code.

    Raises:
        errors.UnsupportedByBackend: Its image brings a server that debugpy cannot run.
    """
    place = f"onlineEndpoints/{deployment.endpoint_name}/deployments/{deployment.name}"
    there = docker.ask("POST", f"{place}/container").body
    folder = Path(there["folder"])
    file = folder / ".devcontainer" / "devcontainer.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    document = devcontainer(f"{deployment.endpoint_name}/{deployment.name}", there, code)
    file.write_text(json.dumps(document, indent=4) + "\n", encoding="utf-8")
    return folder, str(there["code"])


def devcontainer(name: str, there: Mapping[str, Any], code: Path) -> dict[str, Any]:
    """
    What `devcontainer.json` says.

    Args:
        name: What VS Code calls the window, and its configurations.
        there: What the control plane says of a replica's container.
        code: The user's own folder.

    Source: containers.dev, "Dev Container metadata reference".
    """
    python, serve = str(there["python"]), [str(each) for each in there["command"]]
    # Breakpoints are not missed in modules that Python has frozen, and nothing warns that they might be.
    waits = [
        python,
        "-Xfrozen_modules=off",
        "-m",
        "debugpy",
        "--listen",
        f"0.0.0.0:{DEBUG_PORT}",
        "--wait-for-client",
        *serve[1:],
    ]
    # A process that a command leaves behind would be ended with that command's terminal.
    start = f"nohup sh -c {shlex.quote(f'{shlex.join(waits)} > {LOG} 2>&1 &')}"
    return {
        "name": name,
        "image": there["image"],
        "overrideCommand": True,
        "workspaceFolder": there["code"],
        "workspaceMount": f"source={code},target={there['code']},type=bind",
        "mounts": [
            f"source={each['source']},target={each['target']},type=bind,readonly" for each in there.get("mounts") or []
        ],
        "containerEnv": there["environment"],
        "runArgs": [f"--label={label}={value}" for label, value in there["labels"].items()]
        + (["--gpus=all"] if there.get("gpus") else []),
        "postStartCommand": start,
        "forwardPorts": [SCORING_PORT, DEBUG_PORT],
        "portsAttributes": {
            str(SCORING_PORT): {"label": "scoring: /score", "onAutoForward": "silent"},
            str(DEBUG_PORT): {"label": "debugpy", "onAutoForward": "ignore"},
        },
        "customizations": {
            "vscode": {
                "extensions": ["ms-python.python", "ms-python.debugpy"],
                "settings": {
                    "python.defaultInterpreterPath": python,
                    "launch": {"version": "0.2.0", "configurations": _configurations(name, serve)},
                },
            }
        },
    }


def opened(folder: Path, code: str) -> None:
    """
    Open VS Code in the container of a folder.

    Raises:
        errors.VSCodeCommandNotFound: `code` is not on the PATH, or it fails. The folder can be opened by hand.
    """
    by_hand = f"The dev container is in '{folder}': open that folder in VS Code, and reopen it in its container."
    command = shutil.which("code")
    if command is None:
        raise VSCodeCommandNotFound(
            f"VS Code's command 'code' is not on the PATH. {by_hand} For the next time, VS Code's own command palette "
            "has 'Shell Command: Install 'code' command in PATH'.",
            target="vscode_debug",
        )
    where = f"vscode-remote://dev-container+{str(folder).encode().hex()}{code}"
    done = subprocess.run(
        [command, "--folder-uri", where], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or "it said nothing"
        raise VSCodeCommandNotFound(
            f"VS Code's command '{command}' failed with {done.returncode}: {said}. {by_hand}", target="vscode_debug"
        )


def _configurations(name: str, serve: list[str]) -> list[dict[str, Any]]:
    """What VS Code's debugger can do: attach to the server that waits, or start another when that has ended."""
    _, _, module, *arguments = serve
    return [
        {
            "name": f"{name}: attach",
            "type": "debugpy",
            "request": "attach",
            "connect": {"host": "127.0.0.1", "port": DEBUG_PORT},
        },
        {"name": f"{name}: start", "type": "debugpy", "request": "launch", "module": module, "args": arguments},
    ]
