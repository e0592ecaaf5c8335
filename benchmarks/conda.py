"""
How long an environment of 30 conda packages takes, Python among them, from a channel in a folder.

Cold: nothing was ever downloaded or solved. Warm: packages are there, in rattler's cache and in uv's. Solved: there is
a lock too. Built: the environment is there.

The peer would be micromamba, which none of PyPI, npm and Debian has; nor has any of them a conda or a pixi that
installs here. So the conda part stands beside bare rattler, which it is made with, in a program of its own, and the
whole, which has our scoring server as well, beside a plain copy of the same files: what no installer gets below.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers

sys.path.insert(0, str(peers.ROOT))
from tests.builds import channel

from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder

ROUNDS = 5
PACKAGES = 30
NEXT = "Using Python"
"""How uv begins, when conda's part is done."""
RATTLER = """
import asyncio, os, sys
from pathlib import Path
import rattler

async def main(channel, prefix, cache, *specs):
    gateway = rattler.Gateway(cache_dir=Path(cache) / "repodata")
    records = await rattler.solve(
        [rattler.Channel(channel)],
        [rattler.MatchSpec(each) for each in specs],
        gateway=gateway,
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    await rattler.install(records, prefix, cache_dir=Path(cache) / "pkgs", show_progress=False)

asyncio.run(main(*sys.argv[1:]))
os._exit(0)
"""

Seconds = dict[str, float]


class Bench:
    """A channel, and a folder for each round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._channel = folder / "channel"
        channel.add_many(self._channel, PACKAGES)
        self._url = self._channel.as_uri()
        self._asked = [f"python {channel.HERE}.*", "whole"]
        self._rounds = 0

    def round(self) -> Seconds:
        """Both sides, each with caches of its own that are empty at first, and the copy."""
        self._rounds += 1
        folder = self._folder / str(self._rounds)
        folder.mkdir()
        seconds = {}
        for state in ("cold", "warm"):
            begin = time.perf_counter()
            self._bare(folder / f"bare-{state}", folder / "bare-cache")
            seconds[f"bare {state}"] = time.perf_counter() - begin
        os.environ |= {"RATTLER_CACHE_DIR": str(folder / "rattler"), "UV_CACHE_DIR": str(folder / "uv")}
        cache = folder / "environments"
        python = self._ours(seconds, "cold", cache)
        self._ours(seconds, "warm", folder / "others")
        shutil.rmtree(python.parents[1])
        self._ours(seconds, "solved", cache)
        self._ours(seconds, "built", cache)
        prefix = python.parents[1]
        installed = {each.name for each in prefix.glob("conda-meta/*.json")}
        bare = {each.name for each in (folder / "bare-warm").glob("conda-meta/*.json")}
        if installed != bare or len(bare) != PACKAGES:
            raise SystemExit(f"Not the same packages: {sorted(installed ^ bare)} of {len(bare)}")
        begin = time.perf_counter()
        subprocess.run(["cp", "-a", prefix, folder / "copy"], check=True)
        seconds["copy"] = time.perf_counter() - begin
        shutil.rmtree(folder)
        return seconds

    def _bare(self, prefix: Path, cache: Path) -> None:
        subprocess.run([sys.executable, "-c", RATTLER, self._url, prefix, cache, *self._asked], check=True)

    def _ours(self, seconds: Seconds, state: str, cache: Path) -> Path:
        parts = {}
        wanted = Wanted(
            conda={"channels": [self._url], "dependencies": [each.replace(" ", "=") for each in self._asked]}
        )
        begin = time.perf_counter()

        def tell(line: str) -> None:
            if line.startswith(NEXT):
                parts["conda"] = time.perf_counter() - begin

        python = Path(PrefixBuilder(cache).build(wanted, tell).python)
        seconds[state] = time.perf_counter() - begin
        if state != "built":
            seconds[f"{state}, conda part"] = parts["conda"]
        answer = subprocess.run(
            [python, "-c", "import part27, modelport_scoring; print(part27.__version__)"],
            check=True,
            capture_output=True,
            text=True,
        )
        if answer.stdout.strip() != "1.0":
            raise SystemExit(f"The environment is not whole: {answer}")
        return python


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        bench = Bench(Path(name))
        seen = [bench.round() for _ in range(ROUNDS)]
    median = {what: statistics.median(each[what] for each in seen) for what in seen[0]}
    for what, seconds in median.items():
        print(f"{what:20}{seconds:8.3f} s")
    print(
        f"warm, of a plain copy: {median['warm'] / median['copy']:.3g} x, no bound: a copy compiles and checks nothing"
    )
    holds = True
    ratio = median["cold, conda part"] / median["bare cold"]
    holds &= peers.verdict("cold, conda part, of bare rattler", ratio, 1.5)
    # Two programs' starts and little else: a ratio of those would say nothing about conda.
    more = median["warm, conda part"] - median["bare warm"]
    holds &= peers.verdict("warm, conda part, beyond bare rattler", more, 0.5, "s")
    holds &= peers.verdict("warm, of cold", median["warm"] / median["cold"], 1)
    holds &= peers.verdict("built already", 1000 * median["built"], 50, "ms")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
