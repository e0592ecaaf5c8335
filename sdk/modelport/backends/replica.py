"""
One replica as a process: its folder, its session, its log.

The folder tells the truth. It is written before the process starts (the intent)
and after (who it became), so that whoever comes next finds every process: by pid
and start time, or, when the one who started it was killed between the two, by the
folder's path in its environment. A process that was just forked has neither, but it
holds the lock that it was born with, and is waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from modelport.backends.base import Debugger, Failure, Revision
from modelport.backends.probes import Target
from modelport.backends.records import FILE, Record, crashed_at, ending, private, told_in

LOG_BYTES = 10_000_000
"""A log file is copied to `<name>.1` and begun again when it is longer."""

FAILURE_LINES = 40

# Settings of the person's interpreter, shell and cloud machine that are not the replica's
FOREIGN = ("PYTHON", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV", "CONDA_", "MODELPORT_", "AZUREML_", "AML_")

logger = logging.getLogger(__name__)


class ReplicaProcess:
    """
    A replica's process and all that belongs to it. Not thread-safe: its supervisor is its only user.

    Nothing here waits for the process: signals are sent, and `ended` is asked again.
    """

    def __init__(self, folder: Path, log: Path, record: Record) -> None:
        self.record = record
        self.log = log
        self.address = str(folder / "s")
        self._folder = folder
        self._process: psutil.Process | None = None
        self._is_child = False
        self._exit_code: int | None = None

    launched = True
    """Whether it runs, once it was started."""

    def target(self, probe: str) -> Target:  # noqa: ARG002 (there is one address for all questions)
        """
        Where a probe asks: a process beside the one that runs run(), which may have no time for questions.

        The scoring server in an environment of an earlier version has none.
        """
        return Target(str(self._health if self._health.exists() else self.address), "/")

    @property
    def _health(self) -> Path:
        return self._folder / "h"

    @property
    def id(self) -> str:
        """What people see; the folder's name is shorter for the socket's sake."""
        return f"{self.record.revision.id}-{self.record.index}"

    @property
    def age(self) -> float:
        """Seconds since the process started."""
        return time.time() - (self.record.started or time.time())

    @property
    def debugger(self) -> Debugger | None:
        """Where its debugger listens: it has written that down before it was ready."""
        if not (self.record.revision.debug and self.record.ready):
            return None
        try:
            said = json.loads((self._folder / "debug.json").read_text())
            return Debugger(address=f"{said['host']}:{said['port']}", app_root=self.record.revision.app_root)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # start

    def start(self) -> None:
        """
        Start the process.

        Raises:
            OSError: it could not be started; nothing runs.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.record.pid = self.record.started = None
        self.record.ready = False
        self._save()
        for left in (Path(self.address), self._health, self._failure_file):
            left.unlink(missing_ok=True)
        revision = self.record.revision
        with open(self.log, "ab", opener=private) as log, _birth_lock(self._folder) as held:
            child = subprocess.Popen(
                [revision.python, "-m", "modelport_scoring", "--uds", self.address],
                cwd=revision.app_root,
                env=environment(revision, os.environ) | self._addresses,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[held],
                start_new_session=True,
            )
        child.returncode = 0  # `ended` waits for it: Popen shall neither reap it nor complain (asyncio does the same)
        self._process = psutil.Process(child.pid)  # it is there, as a zombie at least, until we have waited for it
        self._is_child = True
        self._exit_code = None
        self.note(pid=child.pid, started=self._process.create_time())

    def adopt(self, process: psutil.Process) -> None:
        """Take over a process that an earlier server started."""
        self._process = process
        self.note(pid=process.pid, started=process.create_time())

    def note(self, **changes: Any) -> None:
        """Change the record; where it cannot be written, the marker in its environment has to do."""
        self.record.note(self._folder / FILE, **changes)

    def _save(self) -> None:
        self.record.save(self._folder / FILE)

    @property
    def _addresses(self) -> dict[str, str]:
        """Variables that name what is in its folder."""
        return {"MODELPORT_FAILURE_FILE": str(self._failure_file), "MODELPORT_HEALTH_UDS": str(self._health)}

    @property
    def _failure_file(self) -> Path:
        return self._folder / "failure.json"

    # end

    def ended(self) -> bool:
        """Whether it has ended; what its session left behind is killed then."""
        process = self._process
        if process is None:
            return True
        if not self._is_child and is_alive(process):
            return False
        self._process = None
        if self._is_child or process.is_running():  # a zombie "runs", and may be a child of an earlier backend in here
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(process.pid, os.WNOHANG)
                if pid == 0:
                    self._process = process
                    return False
                self._exit_code = os.waitstatus_to_exitcode(status)
        elif psutil.pid_exists(process.pid):  # another process has got the pid, so the session has ended, too
            return True
        kill_session(process.pid)
        return True

    def complaint(self) -> str:
        """Nothing: no check runs inside a process."""
        return ""

    def dump_stacks(self) -> None:
        """Ask it, whose children know no such signal, to write into its log where each thread is."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.send_signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """Ask it to finish what is inside and to end."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.terminate()

    def kill(self) -> None:
        """End it and its children without asking."""
        if self._process is not None and self._process.is_running():
            kill_session(self._process.pid)

    def failure(self) -> Failure:
        """Why it ended: in its own words where it left any, otherwise by its exit code."""
        lines = self.last_lines()
        told = told_in(self._failure_file, lines)
        if told:
            return told
        when = "" if self.record.ready else " before it was ready"
        place = crashed_at(lines, self.record.revision.entry_script)
        return Failure(code="DeploymentFailed", message=f"A replica {ending(self._exit_code)}{when}{place}.", log=lines)

    def discarded(self) -> bool:
        """Remove its folder; the log stays."""
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    # log

    def last_lines(self) -> str:
        """What it wrote last."""
        return last_lines(self.log, FAILURE_LINES)

    def log_size(self) -> int:
        """Bytes in its log file."""
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def rotate_log(self) -> None:
        """Keep the log short; copied and emptied, since the process holds it open."""
        if self.log_size() > LOG_BYTES:
            with self.log.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # who reads between the two steps would find all lines twice
                shutil.copyfile(self.log, older(self.log))
                file.truncate(0)


def environment(revision: Revision, outer: Mapping[str, str]) -> dict[str, str]:
    """
    A replica's environment variables: the person's own (proxies, certificates, PATH, …), less those that
    configure *their* Python, then Azure's, then the deployment's, then ours.
    """
    variables = {name: value for name, value in outer.items() if not name.startswith(FOREIGN)}
    variables |= {
        "PATH": os.pathsep.join([str(Path(revision.python).parent), outer.get("PATH", os.defpath)]),
        "PYTHONNOUSERSITE": "1",  # packages in the person's home are not the environment's
        "AML_APP_ROOT": revision.app_root,
        "AZUREML_ENTRY_SCRIPT": revision.entry_script,
    }
    if revision.model_dir is not None:
        variables["AZUREML_MODEL_DIR"] = revision.model_dir
    debug = {"MODELPORT_DEBUG": "127.0.0.1:0"} if revision.debug else {}
    return {
        **variables,
        **revision.environment_variables,
        **debug,
        "MODELPORT_DEPLOYMENT": revision.deployment,
        "MODELPORT_MAX_CONCURRENT_REQUESTS": str(revision.max_concurrent_requests),
        "MODELPORT_GRACE_SECONDS": f"{revision.request_timeout:g}",
    }


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def recorded(record: Record) -> psutil.Process | None:
    """
    The live process that a record names.

    When the clock was corrected since, Linux tells another start time: the marker finds the process then.
    """
    if record.pid is None or record.started is None:
        return None
    try:
        process = psutil.Process(record.pid)
        is_same = process.create_time() == record.started
    except psutil.NoSuchProcess:
        return None
    return process if is_same and is_alive(process) else None


def marked(folder: Path) -> dict[str, list[psutil.Process]]:
    """
    The live processes of replicas in `folder`, by the name of the replica's own folder, whatever any record says.

    Their environment names it; children inherit that, also those with a session of their own.
    """
    psutil.process_iter.cache_clear()  # or a process with the pid of one that was looked at before is taken for gone
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter(["environ"]):
        path = Path((process.info["environ"] or {}).get("MODELPORT_FAILURE_FILE", ""))
        if path.parent.parent == folder and is_alive(process):
            found.setdefault(path.parent.name, []).append(process)
    return found


def serving(folder: Path, processes: list[psutil.Process]) -> psutil.Process | None:
    """Which of a folder's processes is the replica itself: the one that was told to listen there."""
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            if str(folder / "s") in process.cmdline() and os.getsid(process.pid) == process.pid:
                return process
    return None


@contextlib.contextmanager
def _birth_lock(folder: Path) -> Iterator[int]:
    """A locked file of the folder's, for a process to inherit: it goes with the last one that has it."""
    path = folder / "born"
    path.unlink(missing_ok=True)  # a child of the one before may hold that still
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def is_being_born(folder: Path) -> bool:
    """Whether somebody holds the folder's lock: a replica, or what will be one in a moment."""
    try:
        descriptor = os.open(folder / "born", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def kill_all(processes: list[psutil.Process]) -> None:
    """End processes without asking."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_session(leader: int) -> None:
    """Kill what runs in the process group of a session's leader."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # none left; macOS: only zombies left
        os.killpg(leader, signal.SIGKILL)


def older(log: Path) -> Path:
    """Where a log file's older part is."""
    return log.with_name(f"{log.name}.1")


def last_lines(log: Path, count: int) -> str:
    """The newest lines of a log file and its older part."""
    newest: deque[str] = deque(maxlen=count)
    with contextlib.suppress(OSError), log.open(errors="replace") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError), older(log).open(errors="replace") as before:
            newest.extend(before)
        newest.extend(file)
    return "".join(newest)
