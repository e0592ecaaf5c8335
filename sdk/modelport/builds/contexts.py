"""
Images from Dockerfiles: built by the engine's classic builder, or by `docker buildx` where that is installed.

Either reports a failure in its own way. A person wants the line of their Dockerfile,
so steps are counted as the builder counts them, and errors told with the line.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import frozen
from docker import DockerClient
from docker.errors import APIError
from docker.utils.build import exclude_paths

from modelport import engine, errors
from modelport.builds import streams
from modelport.builds.channels import masked
from modelport.builds.diagnosis import failure
from modelport.builds.streams import Closers

_STEP = re.compile(r"Step (\d+)/\d+ : (.*)")
_PARSE_FAULT = re.compile(r"dockerfile parse error (?:on )?line (\d+): (.*)", re.IGNORECASE)
_BUILDX_LINE = re.compile(r"\S+:(\d+)")


@frozen(kw_only=True)
class Context:
    """A folder with a Dockerfile, from which an image is to be built."""

    folder: Path
    dockerfile: str

    def check(self) -> None:
        """
        See that the Dockerfile is there.

        Raises:
            errors.ValidationException: It is not.
        """
        if not self._file.is_file():
            raise errors.ValidationException(
                f"There is no file '{self.dockerfile}' in the folder that the image is to be built from. "
                "Add it, or name another one as `dockerfile_path`.",
                target="build.dockerfile_path",
            )

    def digest(self) -> str:
        """Hash of the Dockerfile's path and of all files that the builder gets: .dockerignore has its say."""
        digest = hashlib.sha256(f"{self.dockerfile}\0".encode())
        for name in sorted(exclude_paths(str(self.folder), self._ignored(), dockerfile=self.dockerfile)):
            path = self.folder / name
            if path.is_symlink():
                digest.update(f"{name}\0link\0{path.readlink()}\0".encode())
            elif path.is_file():
                contents = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{name}\0{path.stat().st_mode & 0o777:o}\0{contents}\0".encode())
        return digest.hexdigest()

    def fault(self, step: int, said: str) -> str:
        """What failed, as a sentence with the Dockerfile's line; `step` counts instructions from 1, 0 is none."""
        lines = self._instructions()
        return self.fault_at(lines[step - 1] if 0 < step <= len(lines) else 0, said)

    def fault_at(self, line: int, said: str) -> str:
        """As `fault`, where the line is known; 0 is none."""
        if parse := _PARSE_FAULT.search(said):
            return f"{self._place(int(parse[1]))}: {parse[2].rstrip('.')}. Correct that line."
        text = self._text(line) if line else ""
        return f"{self._place(line) if line else self.dockerfile}: {_meant(said, text)}"

    @property
    def _file(self) -> Path:
        return self.folder / self.dockerfile

    def _ignored(self) -> list[str]:
        with suppress(FileNotFoundError):
            lines = (self.folder / ".dockerignore").read_text(encoding="utf-8").splitlines()
            return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        return []

    def _place(self, line: int) -> str:
        text = self._text(line)
        return f"{self.dockerfile} line {line}" + (f", `{text}`" if text else "")

    def _text(self, line: int) -> str:
        """An instruction from its first line on, as one line."""
        text = ""
        for each in self._lines()[max(line - 1, 0) :]:
            if text and each.strip().startswith("#"):
                continue
            text = f"{text} {each.strip()}".strip()
            if not text.endswith("\\"):
                break
            text = text[:-1].strip()
        return text

    def _instructions(self) -> list[int]:
        """The first line of each instruction, counted from 1."""
        found, goes_on = [], False
        for number, line in enumerate(self._lines(), 1):
            if not line.strip() or line.strip().startswith("#"):
                continue
            if not goes_on:
                found.append(number)
            goes_on = line.rstrip().endswith("\\")
        return found

    def _lines(self) -> list[str]:
        return self._file.read_text(encoding="utf-8", errors="replace").splitlines()


def built_classic(
    context: Context,
    name: str,
    labels: Mapping[str, str],
    tell: Callable[[str], None],
    closers: Closers,
    *,
    pull: bool,
) -> str:
    """
    The id of the image that the engine itself builds. While it does, `closers` has what ends it.

    Raises:
        errors.ImageBuildFailure: It cannot be built.
        errors.ModelportError: The engine's, see `engine.told`.
    """
    lines: list[str] = []
    step, image = 0, ""

    def ask(client: DockerClient) -> Iterator[dict[str, Any]]:
        answer: Iterator[dict[str, Any]] = client.api.build(
            path=str(context.folder),
            dockerfile=context.dockerfile,
            tag=name,
            labels=dict(labels),
            pull=pull,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=None,
            use_config_proxy=True,
        )
        return answer

    try:
        with engine.told("The image"), streams.messages(ask, closers) as messages:
            for message in messages:
                if "error" in message:
                    raise failure(context.fault(step, masked(message["error"])), lines, what="Image")
                image = message.get("aux", {}).get("ID", image)
                for line in filter(None, message.get("stream", message.get("status", "")).splitlines()):
                    started = _STEP.match(line)
                    step = int(started[1]) if started else step
                    lines.append(masked(line))
                    tell(lines[-1])
    except errors.DeploymentFailed as error:
        # What the engine refuses before the first step: the Dockerfile itself.
        refused = error.__cause__
        if not isinstance(refused, APIError) or refused.status_code != HTTPStatus.BAD_REQUEST:
            raise
        raise failure(context.fault(0, engine.words(refused)), lines, what="Image") from refused
    if not image:
        raise failure("the build was cut off.", lines, what="Image")
    return image


def has_buildx() -> bool:
    """Whether the command `docker buildx` is there."""
    try:
        return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def built_with_buildx(
    context: Context,
    name: str,
    labels: Mapping[str, str],
    tell: Callable[[str], None],
    closers: Closers,
    *,
    pull: bool,
) -> str:
    """
    The name of the image that `docker buildx` builds, as `built_classic`.

    Raises:
        errors.ImageBuildFailure: It cannot be built.
    """
    command = ["docker", "buildx", "build", "--load", "--progress", "plain", "--tag", name]
    command += ["--file", str(context.folder / context.dockerfile)]
    command += [option for label in labels.items() for option in ("--label", "=".join(label))]
    command += ["--pull"] if pull else []
    lines = []
    with subprocess.Popen(
        [*command, str(context.folder)],
        # Attestations would make an index of images of it, which the engine does not load.
        env={**os.environ, "DOCKER_HOST": engine.address(), "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:

        def end() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

        assert process.stdout is not None
        closers.add(end)
        try:
            for line in process.stdout:
                lines.append(masked(line.rstrip()))
                tell(lines[-1])
        except BaseException:
            end()
            raise
        finally:
            closers.discard(end)
    if process.returncode:
        raise failure(_buildx_fault(context, lines), lines, what="Image")
    return name


def _buildx_fault(context: Context, lines: list[str]) -> str:
    said = next((line for line in reversed(lines) if line.startswith("ERROR: ")), "ERROR: it ended early")
    said = re.sub(r"^ERROR: (failed to build: )?(failed to solve: )?", "", said)
    # It shows the lines around the fault, below `Dockerfile:4` and a ruler.
    shown = [line for line, ruler in pairwise(lines) if re.fullmatch("-{5,}", ruler)]
    at = next((int(where[1]) for line in shown if (where := _BUILDX_LINE.fullmatch(line))), 0)
    return context.fault_at(at, said)


def _meant(said: str, instruction: str) -> str:
    """An error of a builder in a person's words, with the remedy."""
    said = " ".join(said.split()).rstrip(".")
    if ended := re.search(r"returned a non-zero code: (\d+)|exit code: (\d+)", said):
        return f"the command ended with status {ended[1] or ended[2]}."
    if "requires BuildKit" in said:
        return "only BuildKit knows this. Install Docker's buildx (`docker buildx version` must work), or leave it out."
    if base := re.match(r"FROM\s+(?:--\S+\s+)*(\S+)", instruction, re.IGNORECASE):
        return (
            f"the image '{base[1]}' is not here and could not be pulled: {said}. "
            "Check its name and the network, or log in with `docker login`."
        )
    if missing := re.search(r"stat (\S+?): (?:file does not exist|no such file)|\"?(/\S+?)\"?: not found", said):
        named = (missing[1] or missing[2]).lstrip("/")
        return f"'{named}' is not in the folder that the image is built from, or .dockerignore leaves it out. Add it."
    return f"{said}." if instruction else f"{said}. Correct the file."
