"""
How long until a model serves in containers, beside azure-ai-ml's `local=True`: first, after an edit, and deleted.

Both are given one image, with Azure's inference server in it, as Azure's own images have. Theirs runs it as it is:
its other way, an environment made while the image is built, wants conda in the image. Ours adds its scoring server
when it first meets the image, which is told apart; and is asked to leave serving to what the image has, as well.
Theirs sleeps for 15 s and looks every 5 s, whatever the container does: that is what its users wait for.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import docker
import peers
from docker import errors

from modelport.builds.image import PACKAGES, ImageBuilder

BASE = "modelport-test/base:bookworm"
"""Debian with Python and pip: `tests/tools/docker-up` makes it."""
DOCKERFILE = """
FROM {base}
RUN pip install --no-cache-dir azureml-inference-server-http==1.5.1
EXPOSE 5001
CMD ["sh", "-c", "cd $AML_APP_ROOT && exec azmlinfsrv --entry_script $AZUREML_ENTRY_SCRIPT --port 5001"]
"""
STORY = Path(__file__).with_name("local_story.py")
TITLES = {"first": "first deployment", "changed": "changed script, serving", "delete": "delete"}

Seconds = dict[str, float]


class Bench:
    """One image for both sides, and where each has what it makes."""

    def __init__(self, engine: docker.DockerClient, image: str, theirs: Path, folder: Path) -> None:
        self._engine = engine
        self._image = image
        self._theirs = theirs
        self._folder = folder
        self._environments = folder / "environments"
        self._environments.mkdir()

    def run(self, who: str) -> Seconds:
        """The seconds of each step: `theirs`, `ours`, or ours with the server that is in the `image`."""
        endpoint = f"bench-{secrets.token_hex(4)}"
        folder = self._folder / endpoint
        (folder / "home").mkdir(parents=True)
        (folder / "home" / "environments").symlink_to(self._environments)
        python = str(self._theirs) if who == "theirs" else sys.executable
        command = [python, str(STORY), who, self._image, endpoint, str(folder)]
        # Theirs writes into the user's home.
        around = {**os.environ, "PYTHONPATH": "", **({"HOME": str(folder)} if who == "theirs" else {})}
        try:
            done = subprocess.run(command, env=around, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                raise SystemExit(f"The story of {who} failed:\n{done.stderr}")
            return json.loads((folder / "seconds.json").read_text())
        finally:
            self._clear(who, endpoint, folder)

    def _clear(self, who: str, endpoint: str, folder: Path) -> None:
        if who != "theirs":
            subprocess.run(
                [sys.executable, "-m", "modelport.cli", "down", "--home", str(folder / "home")],
                stdout=subprocess.DEVNULL,
                check=True,
            )
            return
        label = ["azureml-local-endpoint", f"endpoint={endpoint}"]
        for container in self._engine.containers.list(all=True, filters={"label": label}):
            container.remove(force=True, v=True)
        notes = folder / "volumes.txt"
        for name in notes.read_text().split() if notes.exists() else ():
            with suppress(errors.NotFound):
                self._engine.volumes.get(name).remove()

    def close(self) -> None:
        """Remove the images that ours has made; what it has downloaded for them is the user's, as before."""
        builder = ImageBuilder(self._environments / "images")
        try:
            builder.prune((), 0)
        finally:
            builder.close()


@contextmanager
def prepared(base: str) -> Iterator[Bench]:
    with ExitStack() as stack:
        engine = docker.from_env(timeout=600)
        stack.callback(engine.close)
        stack.enter_context(volume_as_it_was(engine))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mp-")))
        name = f"modelport-benchmark/{secrets.token_hex(4)}"
        file = BytesIO(DOCKERFILE.format(base=base).encode())
        image, _ = engine.images.build(fileobj=file, tag=name, rm=True, forcerm=True)
        stack.callback(engine.images.remove, image.id, force=True)
        theirs = stack.enter_context(peers.environment(peers.AZURE, "docker"))
        bench = Bench(engine, name, theirs, folder)
        stack.callback(bench.close)
        yield bench


@contextmanager
def volume_as_it_was(engine: docker.DockerClient) -> Iterator[None]:
    """Packages that builds have downloaded stay where there were some before."""
    there = any(each.name == PACKAGES for each in engine.volumes.list())
    try:
        yield
    finally:
        if not there:
            with suppress(errors.APIError):  # somebody else uses it by now
                engine.volumes.get(PACKAGES).remove()


def measure(bench: Bench, rounds: int) -> bool:
    unprepared = bench.run("ours")
    seen: dict[str, list[Seconds]] = {"ours": [], "image": [], "theirs": []}
    bench.run("image")  # it is another environment
    for _ in range(rounds):
        for who, runs in seen.items():
            runs.append(bench.run(who))
    median = {
        who: {step: statistics.median(each[step] for each in runs) for step in runs[0]} for who, runs in seen.items()
    }
    ours, image, theirs = median.values()
    print(f"{'':28}{'ours':>8}{'image':>8}{'theirs':>8}   s, medians of {rounds}")
    for step, title in TITLES.items():
        print(f"{title:28}{ours[step]:8.2f}{image[step]:8.2f}{theirs[step]:8.2f}")
    print(f"{'client, server started':28}{ours['client']:8.2f}{image['client']:8.2f}{theirs['client']:8.2f}")
    first = unprepared["first"]
    print(f"first deployment, our server put into the image too: {first:.2f} s, {first / theirs['first']:.3g} x theirs")
    for who, each in (("ours", ours), ("image", image)):
        print(f"delete, {who}, of theirs: {each['delete'] / theirs['delete']:.3g} x, no bound")
    holds = peers.verdict("changed script, serving, on Docker", ours["changed"], 5, "s")
    for step in ("first", "changed"):
        for who, each in (("ours", ours), ("image", image)):
            holds &= peers.verdict(f"{TITLES[step]}, {who}, of theirs", each[step] / theirs[step], 0.25)
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=BASE, help="an image with Python and pip")
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    with prepared(said.base) as bench:
        return 0 if measure(bench, said.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
