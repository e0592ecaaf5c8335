"""
What gives replicas an interpreter, as the control plane sees it.

One seam, because a backend on this machine wants a folder with a Python in it and
a backend of containers wants an image; whoever asks only says what the user said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen


@frozen(kw_only=True)
class Built:
    """An environment that is ready to start processes from."""

    key: str
    """Hash of everything that went into it; its name in the cache."""
    prefix: Path
    python: Path
    """The interpreter; `modelport_scoring` is importable there."""
    warnings: tuple[str, ...] = ()
    """Sentences for the operation's messages: what was met in another way than asked for."""


class Builder(Protocol):
    """
    What every builder does. All methods may be called from any thread.

    `conda` is the parsed conda file, `{"channels": […], "dependencies": […, {"pip": […]}]}`,
    or None for a clean environment with only what scoring needs.
    """

    def key(self, conda: Mapping[str, Any] | None) -> str:
        """
        The name of the environment: equal for files that ask for the same thing.

        Raises:
            errors.ValidationException: As `check`.
        """

    def check(self, conda: Mapping[str, Any] | None) -> tuple[str, ...]:
        """
        Sentences about what will be met in another way than asked for; quick, and without the network.

        Raises:
            errors.ValidationException: The file is not a conda file, or asks for what cannot be given.
            errors.UnsupportedByBackend: It asks for packages that only another backend can install.
        """

    def build(self, conda: Mapping[str, Any] | None, report: Callable[[str], None]) -> Built:
        """
        The environment, made now or found in the cache; `report` gets the builder's lines as they come.

        Raises:
            errors.ValidationException: As `check`.
            errors.ImageBuildFailure: A requirement could not be met; ends with the builder's last lines.
        """

    def close(self) -> None:
        """End the builds that run; they fail, and what they left is removed by the next one."""

    def prune(self, keep: Collection[str], max_bytes: int | None) -> list[str]:
        """
        Remove environments until at most `max_bytes` are left, the longest unused first; None removes all.

        Those whose keys are in `keep`, and those that are being built, stay. Returns the keys removed.
        """
