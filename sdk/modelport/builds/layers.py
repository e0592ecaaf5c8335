"""
A container in which an image is made: commands run in it, and what they leave is committed.

Not a generated Dockerfile: the engine's classic builder has no cache that outlives a
build, while a container can have a volume. So a package is fetched once for all images.
Nothing of how it was built stays in the image but the empty folders under `WORK`: what
commands need is mounted, and their environment, which may have an index's password, is
given to each of them and not to the container.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.types import Mount

from modelport import engine
from modelport.builds.channels import masked
from modelport.builds.diagnosis import failure

HOME = "/opt/modelport"
"""Where everything of ours is in an image."""
ENVIRONMENT = f"{HOME}/env"
"""The environment in an image, where it is made in the image."""
WORK = f"{HOME}/build"
"""Where things for building are mounted."""

# Long enough for any build, and an end for a container whose builder was killed and never came back.
_LASTS_SECONDS = "86400"


class Layer:
    """
    A container of `image`, as root, that waits for commands; `labels` are its own.

    Raises:
        errors.ModelportError: The engine's, see `engine.told`.
    """

    def __init__(self, client: DockerClient, image: str, labels: Mapping[str, str], mounts: Sequence[Mount]) -> None:
        self._client, self._labels = client, dict(labels)
        with engine.told("The container to build in"):
            self._container = client.containers.create(
                image,
                [_LASTS_SECONDS],
                entrypoint=["sleep"],
                user="0",
                labels=self._labels,
                # Not `volumes`: their places would be volumes of the image too.
                mounts=list(mounts),
                # Where SELinux is enforced, it would keep the container from what is mounted.
                security_opt=["label=disable"],
                healthcheck={"test": ["NONE"]},
            )
            try:
                self._container.start()
            except BaseException:
                self.remove()
                raise

    def run(
        self, command: Sequence[str], tell: Callable[[str], None], environment: Mapping[str, str] | None = None
    ) -> tuple[int, list[str]]:
        """
        The exit status and the lines of a command, told as they come; secrets in URLs are masked.

        Raises:
            errors.ImageBuildFailure: The container was ended under it, so that its status says nothing.
        """
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line)
            tell(line)

        with engine.told("The container to build in"):
            status = self._run(command, hear, environment)
        if status is None:
            raise failure(
                "the container in which it was made was ended, by somebody or for want of memory. Try again.",
                lines,
                what="Image",
            )
        return status, lines

    def _run(
        self, command: Sequence[str], tell: Callable[[str], None], environment: Mapping[str, str] | None
    ) -> int | None:
        """The exit status of a command; None when it was cut off."""
        api, container = self._client.api, self._container.id
        try:
            run = api.exec_create(container, list(command), user="0", environment=environment, workdir="/")["Id"]
            with _closing(api.exec_start(run, stream=True)) as output:
                for line in text_lines(output):
                    tell(masked(line))
            status = api.exec_inspect(run)["ExitCode"]
            if status == 0 or (status and api.inspect_container(container)["State"]["Running"]):
                return int(status)
        except NotFound:
            pass
        except APIError as error:
            if "is not running" not in engine.words(error):
                raise
        return None

    def commit(self, name: str, labels: Mapping[str, str], entrypoint: Sequence[str], user: str) -> str:
        """The id of a new image called `name`, with what the commands left."""
        repository, _, tag = name.rpartition(":")
        # The container's own labels would be the image's too, and can only be emptied.
        all_labels = {**dict.fromkeys(self._labels, ""), **labels}
        configuration = {"Labels": all_labels, "Entrypoint": list(entrypoint), "Cmd": [], "User": user or "0"}
        with engine.told(f"Image '{name}'"):
            return str(self._client.api.commit(self._container.id, repository, tag, conf=configuration)["Id"])

    def remove(self) -> None:
        """End and remove the container; from any thread, and more than once."""
        remove(self._client, self._container.id)


def remove(client: DockerClient, container: str) -> None:
    """End and remove a container, if it is there."""
    with engine.told("The container to build in"), suppress(NotFound):
        try:
            client.api.remove_container(container, force=True, v=True)
        except APIError as error:
            if "already in progress" not in engine.words(error):
                raise


def read_only(here: Path, there: str) -> Mount:
    """A file or folder of this machine for a `Layer`."""
    return Mount(there, str(here), type="bind", read_only=True)


def volume(name: str, there: str) -> Mount:
    """A volume, which is kept, for a `Layer`."""
    return Mount(there, name, type="volume")


def text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of what comes in pieces; carriage returns, with which progress is painted, end lines too."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    for chunk in chunks:
        *whole, rest = re.split(r"[\r\n]+", rest + decode(chunk))
        yield from filter(None, whole)
    if rest:
        yield rest


@contextmanager
def _closing(stream: Any) -> Iterator[Iterable[bytes]]:
    """A stream of docker-py, whose connection is closed in the end."""
    try:
        yield stream
    finally:
        stream._response.close()  # noqa: SLF001 - its own close() takes the socket that a reader may have closed
