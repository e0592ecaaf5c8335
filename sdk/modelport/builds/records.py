"""
What a builder of images has made, written down beside its locks.

Docker's engine is everybody's: an image there may be another user's of the machine,
or of another Modelport home. So a builder goes by its own notes, and only removes
what stands in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from modelport.builds.locks import locked

NAMES = "modelport/"
"""What the names of images begin with that are made here."""


@frozen(kw_only=True)
class Record:
    """An image that was made, or is used as it is."""

    image: str
    """Its id."""
    size_bytes: int = 0
    """What it takes beside the image that it was made from; 0 when it is not ours to remove."""
    python: str = ""
    under: tuple[str, ...] = ()
    """Keys of what it was made from, which stay as long as it does."""
    steps: bool = False
    """Whether it was built from a Dockerfile, whose steps are images without names below it."""
    ours: bool = True
    """Whether it was made here."""


class Records:
    """The notes of a builder in `folder`, one for each key, with its lock and its last log beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def locked(self, key: str, waiting: Callable[[], None] | None = None) -> AbstractContextManager[int]:
        """
        Hold the lock of `key`, as `locks.locked`.

        Raises:
            BlockingIOError: Somebody else holds it, and there is nobody to tell about `waiting`.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return locked(self.lock(key), waiting)

    def lock(self, key: str) -> Path:
        """Where the lock of `key` is."""
        return self.folder / f"{key}.lock"

    def image_name(self, kind: str, key: str) -> str:
        """A name for what is made under `key`, this folder's alone: another home with that key would take it."""
        place = hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        return f"{NAMES}{kind}:{key}-{place}"

    def log(self, key: str) -> Path:
        """Where the last log of `key` is."""
        return self.folder / f"{key}.log"

    @contextmanager
    def told(self, key: str, report: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
        """What takes lines for the log of `key`, and for `report`."""
        with self.log(key).open("w", encoding="utf-8") as log:

            def tell(line: str) -> None:
                log.write(f"{line}\n")
                log.flush()
                report(line)

            yield tell

    def get(self, key: str) -> Record | None:
        """What is noted under `key`."""
        noted = self.note(key)
        return None if noted is None else Record(**{**noted, "under": tuple(noted["under"])})

    def put(self, key: str, record: Record) -> None:
        """Note it, in one step."""
        self.put_note(key, asdict(record))

    def touch(self, key: str) -> None:
        """Note that it is used now, and at the same moment what it was made from."""
        record, now = self.get(key), time.time_ns()
        for each in (*record.under, key) if record else ():
            with suppress(FileNotFoundError):
                os.utime(self._path(each), ns=(now, now))

    def last_use(self, key: str) -> float:
        """When it was last used; 0 when it is not there."""
        try:
            return self._path(key).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def remove(self, key: str) -> None:
        """Forget it. The lock stays: to remove it would make two locks of one."""
        self._path(key).unlink(missing_ok=True)
        self.log(key).unlink(missing_ok=True)

    def all(self) -> dict[str, Record]:
        """Everything that is noted, by key."""
        keys = sorted(path.stem for path in self.folder.glob("*.json") if not path.stem.startswith("about-"))
        return {key: record for key in keys if (record := self.get(key))}

    def note(self, key: str) -> dict[str, Any] | None:
        """What was noted with `put_note`."""
        try:
            noted: dict[str, Any] = json.loads(self._path(key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return noted

    def put_note(self, key: str, note: dict[str, Any]) -> None:
        """Note anything; keys that begin with `about-` are no images."""
        unfinished = self.folder / f"{key}.{os.getpid()}-{threading.get_ident()}.new"
        unfinished.write_text(json.dumps(note), encoding="utf-8")
        unfinished.replace(self._path(key))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
