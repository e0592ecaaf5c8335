"""
What a replica's container is made of: a revision, into what the engine is told. Pure.

A scoring script's container is ours to decide: nobody's privileges, a root that cannot be
changed, code and model that can only be read. A server of the user's own runs as its
image says, with what it needs to be one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, evolve

from modelport import engine
from modelport.backends.base import Container, Revision, Route, Routes, revision_from
from modelport.backends.records import Record

PORT = 5001
"""Where the scoring server listens in its container. Source: Azure's inference images."""

HEALTH_PORT = 5000
"""Where another process tells whether it is ready and lives. Source: Azure's server, with a separate endpoint."""

DEBUG_PORT = 5678
"""Where its debugger does. Source: debugpy's documentation."""

APP_ROOT = "/var/azureml-app"
"""Where Azure's images find code and models."""

NOTES = "/run/modelport"
"""Where a replica can write to its folder on this machine."""

REPLICA, REVISION = "modelport.replica", "modelport.revision"
"""Labels: `<revision id>-<index>`, and the revision whole, as JSON."""

STRANGER = 1001
"""Whom containers run as when this server is root. Source: the user of Azure's inference images."""

_HEALTH_VARIABLES = {"HEALTH_PORT": str(HEALTH_PORT), "SEPERATE_HEALTH_ENDPOINT": "true"}
_ROOT, _HEALTH = Route(port=PORT, path="/"), Route(port=HEALTH_PORT, path="/")


def routes(revision: Revision) -> Routes:
    """How a replica is asked: as its image says, or as the scoring server in it, ours or Azure's, has it."""
    probed = _ROOT if revision.azure_server else _HEALTH
    return revision.routes or Routes(liveness=probed, readiness=probed, scoring=_ROOT)


def labels(revision: Revision, replica: str) -> dict[str, str]:
    """What a replica's container is found again by."""
    plain = evolve(revision, environment_variables=dict(revision.environment_variables))
    return {
        engine.KIND: "replica",
        REPLICA: replica,
        REVISION: json.dumps(asdict(plain)),
        # What people look for in `docker ps`, by the names of Azure's local endpoints.
        "endpoint": revision.endpoint,
        "deployment": revision.deployment,
    }


def labelled(said: Mapping[str, str]) -> Record:
    """
    The record that a container's labels make.

    Raises:
        KeyError, ValueError, TypeError: They are not a replica's.
    """
    revision = revision_from(json.loads(said[REVISION]))
    return Record(revision=revision, index=int(said[REPLICA].rpartition("-")[2]))


def user() -> str:
    """
    Whom containers run as: who runs this server, so that what it may read they may.

    Never root: then it is a user of their own, and files are made readable for it.
    """
    uid, gid = os.getuid(), os.getgid()
    return f"{uid}:{gid}" if uid else f"{STRANGER}:{STRANGER}"


def ports(revision: Revision) -> set[int]:
    """Where a replica is reached."""
    asked = routes(revision)
    found = {route.port for route in (asked.liveness, asked.readiness, asked.scoring)}
    return {*found, DEBUG_PORT} if has_debugger(revision) else found


def options(revision: Revision, image: Mapping[str, Any], notes: str, cores: float) -> dict[str, Any]:
    """
    What the engine is told to make.

    Args:
        revision: Of which version the replica is.
        image: The configuration of its image.
        notes: Folder on this machine that the replica may write to.
        cores: What the engine's machine has.
    """
    said: dict[str, Any] = {
        "image": revision.image,
        "environment": variables(revision),
        "mounts": _mounts(revision, notes),
        "cap_drop": ["ALL"],
        # Where SELinux is enforced, this machine's folders are closed to containers that have its label.
        "security_opt": ["no-new-privileges:true", "label=disable"],
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
        **_limits(revision, cores),
    }
    if revision.python:
        return said | {
            "entrypoint": _command(revision),
            "command": [],
            "working_dir": code_folder(revision),
            "user": user(),
            "read_only": True,
            "tmpfs": {_scratch(revision): "rw,exec,nosuid,nodev,mode=1777"},
        }
    if image.get("User") in (None, "", "0", "root", "0:0", "root:root"):
        # As the image wants it: with what a server needs to let go of being root, and to listen on low ports.
        added = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
        return said | {"cap_add": added}
    return said


def _mounts(revision: Revision, notes: str) -> list[dict[str, Any]]:
    """
    Code and model, which are only read, and for our own server a folder for notes.

    As the engine's own documents: a path may have any letter, where `here:there` could have no colon.
    """
    mounts = [_mount(notes, NOTES, read_only=False)] if revision.python else []
    for source, target in ((revision.app_root, code_folder(revision)), (revision.model_dir, revision.model_mount)):
        if source:
            mounts.append(_mount(source, target, read_only=True))
    return mounts


def _mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def variables(revision: Revision) -> dict[str, str]:
    """Azure's variables, then the deployment's, then ours."""
    found = {"AML_APP_ROOT": code_folder(revision), "AZUREML_ENTRY_SCRIPT": revision.entry_script}
    found = {name: value for name, value in found.items() if value}
    if revision.model_dir is not None:
        found["AZUREML_MODEL_DIR"] = revision.model_mount
    if revision.python:
        # Its user has no home and no entry in the image's list of users.
        scratch = _scratch(revision)
        found |= {"HOME": scratch, "TMPDIR": scratch, "USER": "modelport", "PYTHONNOUSERSITE": "1"}
        found["AZUREML_INFERENCE_PYTHON_PATH"] = revision.python
    found |= revision.environment_variables
    if revision.python:
        found |= {
            "MODELPORT_FAILURE_FILE": f"{NOTES}/failure.json",
            "MODELPORT_DEPLOYMENT": revision.deployment,
            "MODELPORT_MAX_CONCURRENT_REQUESTS": str(revision.max_concurrent_requests),
            "MODELPORT_GRACE_SECONDS": f"{revision.request_timeout:g}",
        }
    if revision.python and not revision.azure_server:
        found |= _HEALTH_VARIABLES
    if has_debugger(revision):
        found["MODELPORT_DEBUG"] = f"0.0.0.0:{DEBUG_PORT}"
    return found


def described(revision: Revision) -> Container | None:
    """What a container is made of that is no replica; None when the image brings a server of its own."""
    if not revision.python:
        return None
    ours = {"HOME", "TMPDIR", "USER", "MODELPORT_FAILURE_FILE", "MODELPORT_DEBUG", *_HEALTH_VARIABLES} - set(
        revision.environment_variables
    )
    return Container(
        image=revision.image,
        command=tuple(_command(revision)),
        code=code_folder(revision),
        environment={name: value for name, value in variables(revision).items() if name not in ours},
        mounts={revision.model_dir: revision.model_mount} if revision.model_dir else {},
        labels={"endpoint": revision.endpoint, "deployment": revision.deployment},
    )


def has_debugger(revision: Revision) -> bool:
    """Whether our own server runs, and is told to let a debugger be attached."""
    return bool(revision.debug and revision.python and not revision.azure_server)


def code_folder(revision: Revision) -> str:
    """Where the container has the code folder."""
    return f"{APP_ROOT}/{Path(revision.app_root).name}" if revision.app_root else ""


def _scratch(revision: Revision) -> str:
    """Where a replica can write, in memory: elsewhere than its interpreter, whose path may be one of this machine's."""
    return "/var/tmp" if revision.python.startswith("/tmp/") else "/tmp"  # noqa: S108 (the container's own)


def _command(revision: Revision) -> list[str]:
    if revision.azure_server:
        # Its own flag: of the variable alone it takes no notice in all versions.
        script = f"{code_folder(revision)}/{revision.entry_script}"
        server = "azureml_inference_server_http.amlserver"
        return [revision.python, "-m", server, "--entry_script", script, "--port", str(PORT)]
    return [revision.python, "-m", "modelport_scoring", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104


def _limits(revision: Revision, cores: float) -> dict[str, Any]:
    """Cores, memory and GPUs."""
    limits: dict[str, Any] = {}
    if revision.cpus is not None:
        limits["nano_cpus"] = int(min(revision.cpus, cores) * 10**9)
    if revision.memory_bytes is not None:
        limits["mem_limit"] = revision.memory_bytes
    if revision.gpus:
        limits["device_requests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    return limits
