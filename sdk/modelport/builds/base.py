"""
What gives replicas something to run in, as the control plane sees it.

One seam, because a backend on this machine wants a folder with a Python in it and
a backend of containers wants an image; whoever asks only says what the user said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen


@frozen(kw_only=True)
class Wanted:
    """
    What a deployment asks to run in. Code and model are no part of it: they change more often.

    The default is a clean environment with only what scoring needs.
    """

    conda: Mapping[str, Any] | None = None
    """The parsed conda file, `{"channels": […], "dependencies": […, {"pip": […]}]}`."""
    image: str | None = None
    """Name of the container image that it starts from; builders without containers leave it alone."""
    context: Path | None = None
    """Instead of an image: the folder from which one is built, which is only read, and made readable."""
    dockerfile: str = "Dockerfile"
    """Path of the Dockerfile in `context`."""
    own_server: bool = False
    """Whether the image brings its own server: it is taken as it is."""
    azure_server: bool = False
    """Whether the image's azureml-inference-server-http serves, instead of our scoring server."""
    tools: tuple[str, ...] = ()
    """Requirements beside the user's own, such as `debugpy`."""


@frozen(kw_only=True)
class Built:
    """What is ready for replicas to start in."""

    key: str
    """Hash of everything that went into it; its name in the cache."""
    python: str = ""
    """Path of the interpreter, here or in the image, that can import `modelport_scoring`; empty: it is not needed."""
    image: str = ""
    """Id of the image; empty when there is none."""
    warnings: tuple[str, ...] = field(factory=tuple)
    """Sentences for the operation's messages: what was met in another way than asked for."""


def is_offline() -> bool:
    """Whether MODELPORT_OFFLINE keeps builders from the network: only what is in their caches can be installed."""
    return os.environ.get("MODELPORT_OFFLINE", "0") not in ("", "0")


class Builder(Protocol):
    """What every builder does. All methods may be called from any thread."""

    def key(self, wanted: Wanted) -> str:
        """
        The name of what would be built: equal for those who ask for the same thing.

        Raises:
            errors.ValidationException: As `check`.
        """

    def check(self, wanted: Wanted) -> tuple[str, ...]:
        """
        Sentences about what will be met in another way than asked for; quick, and without the network.

        Raises:
            errors.ValidationException: The file is not a conda file, or asks for what cannot be given.
            errors.UnsupportedByBackend: It asks for what only another backend has.
        """

    def build(self, wanted: Wanted, report: Callable[[str], None]) -> Built:
        """
        What is wanted, made now or found in the cache; `report` gets the builder's lines as they come.

        A `report` that raises ends the build.

        Raises:
            errors.ValidationException: As `check`.
            errors.ImageBuildFailure: It could not be made; ends with the builder's last lines.
        """

    def has(self, key: str) -> bool:
        """Whether what was built under `key` is there still."""

    def close(self) -> None:
        """End the builds that run; they fail, and what they left is removed by the next one."""

    def prune(self, keep: Collection[str], max_bytes: int | None) -> list[str]:
        """
        Remove what was built until at most `max_bytes` are left, the longest unused first; None removes all.

        Those whose keys are in `keep`, and those that are being built, stay. Returns the keys removed.
        """
