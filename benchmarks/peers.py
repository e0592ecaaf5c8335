"""Temporary environments with a peer in them, so that the project itself never depends on one."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uv

AZURE = "azure-ai-ml==1.35.2"
ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def environment(*requirements: str) -> Iterator[Path]:
    """The interpreter of a new environment, with bytecode compiled as an installer does."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", sys.executable, folder], check=True)
        command = [
            uv.find_uv_bin(),
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--python",
            str(python),
            *requirements,
        ]
        subprocess.run(command, check=True)
        yield python


def seconds(command: list[str]) -> float:
    """How long a process takes, from its start to its end."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""}, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def alternating(rounds: int, **runs: Callable[[], float]) -> dict[str, float]:
    """The median of each, measured in turn so that the machine's moods reach all alike."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seen[name].append(run())
    return {name: statistics.median(values) for name, values in seen.items()}


def verdict(what: str, found: float, bound: float, unit: str = "x", *, least: bool = False) -> bool:
    """Print one line: the figure, its bound (the most it may be, or the least), and whether it holds."""
    holds = found >= bound if least else found <= bound
    limit = f"at least {bound:g}" if least else f"bound {bound:g}"
    print(f"{what}: {found:.3g} {unit}, {limit} {unit}: {'holds' if holds else 'DOES NOT HOLD'}")
    return holds
