"""
What builds have left in the engine: images that were made, and containers of builds that were cut off.

Only what stands in the notes, or was made under a lock of the same folder, is ever
touched: the engine is everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, ImageNotFound, NotFound

from modelport import engine
from modelport.builds import layers
from modelport.builds.records import NAMES, Record, Records

KEY = "modelport.key"
"""Label of an image: its key."""
FOLDER = "modelport.folder"
"""Label of an image: the folder of the notes without which nobody knows of it."""
LOCK = "modelport.lock"
"""Label of a container that builds: the lock that is held as long as it is wanted."""


class Shelf:
    """What the notes in `records` are about; `client` gives the engine when it is needed."""

    def __init__(self, records: Records, client: Callable[[], DockerClient]) -> None:
        self._records = records
        self._client = client

    def labels(self, key: str) -> dict[str, str]:
        """Labels of an image."""
        return {engine.KIND: "image", KEY: key, FOLDER: str(self._records.folder)}

    def image(self, name: str) -> str | None:
        """The id of an image, by its name or id; None when it is not here."""
        about = self.inspect(name)
        return str(about["Id"]) if about else None

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image; empty when it is not here."""
        with engine.told(f"Image '{name}'"):
            try:
                about: dict[str, Any] = self._client().api.inspect_image(name)
            except ImageNotFound:
                return {}
            return about

    def found(self, key: str) -> Record | None:
        """What is noted under `key`, when its image is here still."""
        record = self._records.get(key)
        return record if record and self.image(record.image) else None

    def size_bytes(self, image: str) -> int:
        """What an image takes beside the nearest one with a name that it was made from."""
        with engine.told(f"Image '{image}'"):
            inspect = self._client().api.inspect_image
            about = under = inspect(image)
            while under.get("Parent"):
                under = inspect(under["Parent"])
                if under.get("RepoTags"):
                    return max(int(about["Size"]) - int(under["Size"]), 0)
            return int(about["Size"])

    def prune(self, keep: Collection[str], max_bytes: int | None) -> list[str]:
        """As `Builder.prune`, for images; those that a container uses stay too."""
        found = self._records.all()
        kept = {key for each in keep if each in found for key in (each, *found[each].under)}
        total = sum(record.size_bytes for record in found.values())
        removed = []
        # What was made from another goes first: an image with children cannot be removed.
        for key in sorted(found, key=lambda key: (self._records.last_use(key), -len(found[key].under))):
            if key in kept or (max_bytes is not None and total <= max_bytes):
                continue
            if self._remove(key, found[key]):
                total -= found[key].size_bytes
                removed.append(key)
        return removed

    def sweep(self) -> None:
        """Remove the containers of builds that nobody holds the lock of, or has any more."""
        for container, lock in self._builds():
            if lock.parent == self._records.folder:
                with suppress(BlockingIOError), self._records.locked(lock.stem):
                    layers.remove(self._client(), container)
            elif engine.is_nowhere(lock.parent):
                layers.remove(self._client(), container)

    def remove_strays(self) -> list[str]:
        """
        Remove images that were made for folders which are gone; returns their names.

        Who starts an image of their own from one of these has its labels too: only what bears our names goes, and what
        a container uses, or was made from it, keeps it.
        """
        removed: list[str] = []
        while gone := self._remove_childless():  # then what they were made from
            removed += gone
        return removed

    def _remove_childless(self) -> list[str]:
        """Remove those of them that nothing else was made from; returns their names."""
        with engine.told("Images"):
            found = self._client().api.images(filters={"label": FOLDER})
        removed: list[str] = []
        for each in found:
            names = each["RepoTags"] or []
            ours = bool(names) and all(name.startswith(NAMES) for name in names)
            stray = ours and engine.is_nowhere(Path(each["Labels"][FOLDER]))
            if stray and self._gone_from_engine(each["Id"], steps=True):
                removed += names
        return removed

    def remove_builds(self, key: str) -> None:
        """Remove what a build under the lock of `key`, which the caller holds, has left."""
        for container, lock in self._builds():
            if lock == self._records.lock(key):
                layers.remove(self._client(), container)

    def remove_volume(self, name: str) -> None:
        """Remove a volume, unless it is used."""
        self._gone(f"Volume '{name}'", lambda: self._client().api.remove_volume(name))

    def _remove(self, key: str, record: Record) -> bool:
        """Remove an image and what is noted of it, unless it is being built, is used, or was used since."""
        used = self._records.last_use(key)
        try:
            with self._records.locked(key):
                if self._records.last_use(key) != used:
                    return False
                image = record.image
                # Below it are a Dockerfile's steps, which go too, or an image of others, which may have lost its name.
                if record.ours and not self._gone_from_engine(image, steps=record.steps):
                    return False
                self._records.remove(key)
        except BlockingIOError:
            return False
        return True

    def _gone_from_engine(self, image: str, *, steps: bool) -> bool:
        return self._gone(f"Image '{image}'", lambda: self._client().api.remove_image(image, noprune=not steps))

    def _builds(self) -> list[tuple[str, Path]]:
        """Containers that build, and the locks that they were made under."""
        with engine.told("Containers"):
            found = self._client().api.containers(all=True, filters={"label": [f"{engine.KIND}=build", LOCK]})
        return [(each["Id"], Path(each["Labels"][LOCK])) for each in found]

    @staticmethod
    def _gone(what: str, remove: Callable[[], object]) -> bool:
        """Whether something is gone after `remove`; it is not while it is used."""
        with engine.told(what):
            try:
                remove()
            except NotFound:
                return True
            except APIError as error:
                if error.status_code != HTTPStatus.CONFLICT:
                    raise
                return False
        return True
