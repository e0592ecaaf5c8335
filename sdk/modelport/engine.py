"""
Docker's engine on this machine: how it is reached, and what its errors mean.

Those who run containers and those who build images do not see each other; both stand
on this. An engine's error is told as one sentence of ours, whoever met it: the
engine's own words say what an API call returned, and not what a person should do.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from modelport import errors

WORKSPACE = "modelport.workspace"
"""Label of everything that belongs to a workspace: its id."""
HOME = "modelport.home"
"""Label of the same: the folder of this machine without which nobody needs it."""
KIND = "modelport.kind"
"""Label that says what it is: `replica`, `network`, `image`, `cache` or `build`."""

_PATIENCE = 10.0

_LOCAL = ("unix://", "npipe://", "tcp://127.0.0.1:", "tcp://localhost:")


def address() -> str:
    """Where the engine listens: `DOCKER_HOST`, else what Docker's own current context says."""
    said = os.environ.get("DOCKER_HOST")
    if said:
        return said
    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return "unix:///var/run/docker.sock"
    return str(context.Host) if context and context.Host else "unix:///var/run/docker.sock"


def connect(*, timeout: float = 60.0) -> docker.DockerClient:
    """
    A client of this machine's engine, which answers. Threads may share it; close it in the end.

    Args:
        timeout: Seconds without a byte after which an answer is given up.

    Raises:
        errors.DockerEngineNotAvailableError: It does not answer, or is on another machine.
    """
    where = address()
    if not where.startswith(_LOCAL):
        raise errors.DockerEngineNotAvailableError(
            f"Docker's engine at '{where}' is on another machine, which sees neither the code nor the models of this "
            "one. Use an engine of this machine: unset DOCKER_HOST, or `docker context use default`."
        )
    must_listen(where)
    with told(f"Docker's engine at '{where}'"):
        return docker.DockerClient(base_url=where, timeout=timeout, version="auto", max_pool_size=64)


def must_listen(where: str) -> None:
    """
    See that somebody listens at an engine's socket; docker-py, which would see too, forgets to close its own then.

    Raises:
        errors.DockerEngineNotAvailableError: Nobody does, or this user may not come in.
    """
    if not where.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as trial:
        trial.settimeout(_PATIENCE)
        try:
            trial.connect(where.removeprefix("unix://"))
        except OSError as error:
            raise _away(isinstance(error, PermissionError)) from error


def _away(forbidden: bool) -> errors.DockerEngineNotAvailableError:
    why = "you may not use it: add yourself to the group 'docker'" if forbidden else "start it"
    return errors.DockerEngineNotAvailableError(
        f"Docker's engine does not answer at '{address()}': {why}, or deploy to processes: MLClient.local()."
    )


@contextmanager
def told(doing: str) -> Iterator[None]:
    """
    Errors of the engine as ours; `doing` begins the sentence: "Image 'x'".

    Raises:
        errors.DockerEngineNotAvailableError: It does not answer.
        errors.ImageBuildFailure: An image is missing or the disk is full.
        errors.LocalDeploymentGPUNotAvailable: It has no GPU to give.
        errors.DeploymentFailed: Anything else that it refuses.
    """
    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise meant(error, doing) from error


def meant(error: Exception, doing: str) -> errors.ModelportError:
    """What an error of docker-py means, as one of ours."""
    said = words(error)
    if is_away(error):
        return _away("Permission denied" in said)
    if "no space left on device" in said:
        message = f"{doing}: the disk that Docker uses is full. Make room, with `modelport prune` for what is ours."
        return errors.ImageBuildFailure(message)
    if "could not select device driver" in said or "nvidia-container" in said or "unknown runtime" in said.lower():
        return errors.LocalDeploymentGPUNotAvailable(
            f"{doing}: a GPU was asked for, and Docker has none to give ({said}). Install NVIDIA's container toolkit, "
            "or leave local_enable_gpu out."
        )
    if taken := re.search(r"(?:[Bb]ind for|listen tcp\w* ) ?(\S+?):? .*(?:already allocated|already in use)", said):
        return errors.DeploymentFailed(f"{doing}: {taken[1]} is taken by another program. End that program.")
    if "invalid reference format" in said:
        return errors.ImageBuildFailure(f"{doing}: that is no name of an image ({said}). Correct it.")
    if isinstance(error, ImageNotFound) or "No such image" in said or "manifest unknown" in said:
        return errors.ImageBuildFailure(f"{doing} is not there: {said}. Check its name, or build it.")
    return errors.DeploymentFailed(f"{doing}: Docker's engine says: {said}.")


def is_away(error: Exception) -> bool:
    """Whether the engine did not answer, so that nothing is known of what was asked."""
    if isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
        return True
    return (
        isinstance(error, DockerException) and not isinstance(error, APIError) and "Error while fetching" in str(error)
    )


def is_gone(error: Exception) -> bool:
    """Whether what was asked about is not there."""
    return isinstance(error, NotFound)


def words(error: Exception) -> str:
    """An error in the engine's own words, without what is around them."""
    said = str(error.explanation or error) if isinstance(error, APIError) else str(error)
    return " ".join(said.split()).rstrip(".")


def is_nowhere(folder: Path) -> bool:
    """Whether a folder is not there; of another user's, which cannot be looked at, nobody here knows."""
    try:
        folder.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def readable(top: Path) -> None:
    """Let other users read what goes into containers. Outside of these, the folders above it keep them out."""
    for path in (top, *top.rglob("*")):
        mode = path.lstat().st_mode
        wanted = 0o055 if path.is_dir() else 0o044
        if not path.is_symlink() and mode & wanted != wanted:
            path.chmod((mode & 0o7777) | wanted)
