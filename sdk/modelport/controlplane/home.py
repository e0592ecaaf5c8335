"""
Where a workspace is on disk.

One folder holds everything that must last (state, uploads, environments, logs);
its folder for sockets is elsewhere when its own path is long, because Unix socket
paths may be no longer than about 107 bytes.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import psutil
from attrs import frozen

from modelport.errors import LocalServerError

_LONGEST_RUNTIME = 60
"""What a socket's path may spend on the folder; replicas and Envoy need the rest."""

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "fuse.sshfs", "9p", "ncpfs", "webdav", "lustre"})


@frozen
class Home:
    """A workspace's folders, all for their owner alone."""

    folder: Path
    runtime: Path

    @property
    def state(self) -> Path:
        """The SQLite file."""
        return self.folder / "state.db"

    @property
    def blobs(self) -> Path:
        """What was uploaded."""
        return self.folder / "blobs"

    @property
    def environments(self) -> Path:
        """The cache of environments."""
        return self.folder / "environments"

    @property
    def logs(self) -> Path:
        """Logs of the server and of replicas."""
        return self.folder / "logs"

    def must_have(self, backend: str) -> None:
        """
        See that the workspace has had no other backend: it is the same for good.

        Raises:
            errors.LocalServerError: It has.
        """
        path = self.folder / "backend"
        # Before there was a second one, nobody wrote down which.
        unsaid = "process" if self.state.exists() else backend
        kept = (path.read_text().strip() if path.exists() else "") or unsaid
        if kept != backend:
            raise LocalServerError(
                f"The workspace in '{self.folder}' has the backend '{kept}', not '{backend}'. Use that, or name "
                "another folder: MODELPORT_HOME, or home=…"
            )

    def keep_backend(self, backend: str) -> None:
        """Write down which backend the workspace has."""
        path = self.folder / "backend"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(backend)
            part.replace(path)


def open_home(folder: Path, environments: Path | None = None) -> Home:
    """
    The workspace in `folder`, made when it is not there.

    Raises:
        errors.LocalServerError: The folder is on a network file system, belongs to somebody else, or cannot be made.
    """
    folder = folder.expanduser().resolve()
    _private(folder)
    kind = _file_system(folder)
    if kind in _NETWORK:
        message = (
            f"'{folder}' is on a network file system ({kind}), where SQLite's write-ahead log is not safe. "
            "Set MODELPORT_HOME to a folder on a local disk."
        )
        raise LocalServerError(message)
    home = Home(folder, runtime_folder(folder))
    for each in (home.runtime, home.blobs, environments or home.environments, home.logs):
        _private(each)
    return home


def _private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.lstat().st_uid  # of a link that somebody put there, not of what it leads to
        if owner == os.getuid():
            folder.chmod(0o700)
    except OSError as error:
        message = f"The folder '{folder}' cannot be used: {error.strerror}. Set MODELPORT_HOME to one that can."
        raise LocalServerError(message) from error
    if owner != os.getuid():
        raise LocalServerError(f"The folder '{folder}' belongs to another user. Set MODELPORT_HOME to one of your own.")


def runtime_folder(folder: Path) -> Path:
    """
    Where the sockets of the workspace in `folder` are: in it, unless its path is too long.

    It must be the same for every process of the user: no variable of a session, such as XDG_RUNTIME_DIR or TMPDIR,
    has a say.
    """
    inside = folder / "run"
    if len(str(inside)) <= _LONGEST_RUNTIME:
        return inside
    mark = hashlib.sha256(str(folder).encode()).hexdigest()[:10]
    return Path(f"/tmp/modelport-{os.getuid()}-{mark}")  # noqa: S108 (it is made 0700 and its owner is checked)


def _file_system(folder: Path) -> str:
    """Type of the file system that `folder` is on."""
    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        mount = part.mountpoint.rstrip("/") + "/"
        if f"{folder}/".startswith(mount) and len(mount) >= len(best):
            best, kind = mount, part.fstype
    return kind
