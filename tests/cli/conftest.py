"""The command as people run it, each in a home of its own, and what it leaves running."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from modelport.controlplane.home import open_home
from modelport.testing import environments_folder


class Home:
    """A folder for MODELPORT_HOME, and everything that runs for it."""

    def __init__(self, folder):
        self.folder = folder
        self.environ = {**os.environ, "MODELPORT_HOME": str(folder)}

    def run(self, *arguments):
        """`modelport …` to its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environ, capture_output=True, text=True, timeout=240, check=False
        )

    def start(self, *arguments):
        """`modelport …`, with its output in a pipe."""
        return subprocess.Popen(
            self.command(*arguments), env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def command(self, *arguments):
        return [sys.executable, "-m", "modelport.cli", *arguments]

    def processes(self):
        """Command lines, by pid, of whatever runs for this home: servers, gateways and replicas inherit its name."""
        running = psutil.process_iter(["environ", "cmdline"])
        return {
            process.pid: process.info["cmdline"]
            for process in running
            if (process.info["environ"] or {}).get("MODELPORT_HOME") == str(self.folder)
        }

    def is_quiet(self, seconds=30):
        """Whether nothing runs; a server that has let go of its workspace takes a moment to exit."""
        deadline = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def end(self):
        """End what is left, by pid."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for folder in (self.folder, self.folder / "quickstart"):
            if folder.is_dir():
                shutil.rmtree(open_home(folder, environments_folder()).runtime)
        shutil.rmtree(self.folder)


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp")).resolve()
    environments_folder().mkdir(parents=True, exist_ok=True)
    (folder / "environments").symlink_to(environments_folder())
    made = Home(folder)
    yield made
    made.end()
