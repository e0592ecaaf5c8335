"""
The first thing that people run: a model is replaced while it is in use.

It walks the story of `samples/blue_green` (the folder `story` is that one) under a
light stream of requests, so that the table in the end is what callers met. It has a
workspace of its own, to be far from the user's endpoints; only the cache of
environments is shared, because an environment is what takes time.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import Factory, define, field
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from modelport.builds.base import Wanted
from modelport.builds.prefix import PrefixBuilder
from modelport.cli import server
from modelport.client import MLClient
from modelport.controlplane.home import open_home
from modelport.entities import EndpointAuthKeys, OnlineEndpoint
from modelport.errors import LocalServerError, ModelportError
from modelport.operations.loading import load_online_deployment, load_online_endpoint
from modelport.schema import files

_STORY = Path(__file__).with_name("story")
_PAUSE = 0.005
"""Seconds between an answer and the next request."""

_ENOUGH = 100
"""Requests that a part of the story goes on for, at least."""

_MIRRORED = 30
_PATIENCE = 60.0
"""Seconds for callers to get that far."""

_CHANGING = "while that changed"

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def quickstart(home: Path, *, keep: bool) -> None:
    """
    Train two models, roll the second out over the first, tell what callers met, and leave nothing running.

    Args:
        home: The user's folder. The story gets `quickstart` in it, and shares `environments`.
        keep: Leave the endpoint up, and say how to call it and how to end it.

    Raises:
        errors.ModelportError: What went wrong, or how many requests failed. Nothing runs any more.
        KeyboardInterrupt: It was told to stop. Nothing runs any more.
    """
    stop = _Stop()
    console = Console(highlight=False, markup=False)
    workspace, environments = home / "quickstart", home / "environments"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        environments.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        message = f"The folder '{error.filename}' cannot be used: {error.strerror}. Give another --home."
        raise LocalServerError(message) from error
    with _alone(home):
        if _remove(workspace):
            console.print("What an earlier quickstart left up has ended.\n")
        kept = False
        try:
            workspace.mkdir(mode=0o700)
            (workspace / "environments").symlink_to(environments)
            rollout = _Rollout(workspace, console, stop)
            rollout.run(keep=keep)
            stop.check()
            kept = keep
        finally:
            if not kept:
                for each in _ENDING:
                    signal.signal(each, signal.SIG_IGN)  # what they ask for comes now
                server.end(workspace)
        if kept:
            rollout.say_how()
        else:
            _remove(workspace)
            console.print("Nothing runs any more.")


class _Stop:
    """
    What asks for the end: raised where the story is, and once more at its next step.

    Python loses what a signal raises in a destructor or a callback of the garbage collector.
    """

    def __init__(self) -> None:
        self._asked = False
        for each in _ENDING:
            if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(each, self._ask)

    def check(self) -> None:
        """Raise KeyboardInterrupt when it was asked for."""
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, *_: object) -> None:
        self._asked = True
        raise KeyboardInterrupt


class _Rollout:
    """The story, from the environment to the table."""

    def __init__(self, workspace: Path, console: Console, stop: _Stop) -> None:
        self._workspace, self._console = workspace, console
        self._view = _View(console, stop)
        self._folder = workspace / "story"
        self._request = self._folder / "sample-request.json"
        self._notes: set[str] = set()

    def run(self, *, keep: bool) -> None:
        """Walk through it, to the end unless the endpoint is to be kept, and tell what callers met."""
        self._console.print("Modelport replaces a model while it is in use.\n")
        shutil.copytree(_STORY, self._folder)
        with self._view.live():
            self._train()
            endpoint = self._create()
            callers = self._view.callers = _Callers(self._client, endpoint.name, self._request.read_bytes())
            with callers:
                self._walk(endpoint, callers)
            if not keep:
                self._delete(endpoint)
        self._console.print(_table(callers.phases))
        failures = [failure for phase in callers.phases.values() for failure in phase.failures]
        if failures:
            raise ModelportError(f"{len(failures)} requests failed; the first: {failures[0]}")

    def say_how(self) -> None:
        """Tell what to do with the endpoint that is left up."""
        endpoint = next(self._client.online_endpoints.list())
        keys = self._client.online_endpoints.get_keys(endpoint.name)
        assert isinstance(keys, EndpointAuthKeys)
        headers = f"-H 'Authorization: Bearer {keys.primary_key}' -H 'Content-Type: application/json'"
        for line in (
            "The endpoint is up. Call it:",
            f"  curl {endpoint.scoring_uri} {headers} -d '@{self._request}'",
            "End it:",
            f"  modelport down --home '{self._workspace}'",
        ):
            self._console.print(line, soft_wrap=True)

    def _train(self) -> None:
        """Train where the models will serve: a pickle wants the version that wrote it."""
        builder = PrefixBuilder(self._workspace / "environments")
        lines: list[str] = []
        with self._view.step("Making an environment with scikit-learn; this takes a while once") as told:
            built = builder.build(Wanted(conda=files.read_mapping(self._folder / "conda.yml")), lines.append)
            told += ["Environment made" if lines else "Environment found in the cache", *built.warnings]
        with self._view.step("Training two models in it") as told:
            command = [built.python, "-I", str(self._folder / "train.py")]
            trained = subprocess.run(command, capture_output=True, text=True, check=False)
            if trained.returncode:
                raise ModelportError(f"The models could not be trained by '{built.python}':\n{trained.stderr.strip()}")
            told += ["Two models trained in it", *trained.stdout.splitlines()]

    def _create(self) -> OnlineEndpoint:
        """The endpoint with blue behind it."""
        with self._view.step("Creating the endpoint") as told:
            with _uninterrupted():  # a server that is half started could not be found and ended
                self._client = MLClient.local(home=self._workspace, show_progress=False)
            endpoint = load_online_endpoint(self._folder / "endpoint.yml")
            created = self._put(endpoint, told)
            told[:0] = [f"Endpoint '{endpoint.name}' created", created.scoring_uri]
        self._deploy("blue")
        with self._view.step("Calling blue") as told:
            endpoint.traffic = {"blue": 100}
            self._put(endpoint, told)
            told += ["Blue has the traffic", f"called with a key, {self._answer(endpoint.name)}"]
        return endpoint

    def _walk(self, endpoint: OnlineEndpoint, callers: _Callers) -> None:
        """From blue to green, with callers who go on."""
        with callers.phase("blue is live"):
            self._deploy("green")
            with self._view.step("Calling green by its name") as told:
                told += ["Green called by its name", self._answer(endpoint.name, "green")]

        with self._view.step(f"Mirroring {_MIRRORED}% of the requests to green") as told:
            before = self._scored("green", endpoint.name)
            endpoint.mirror_traffic = {"green": _MIRRORED}
            self._put(endpoint, told)
            with callers.phase(f"{_MIRRORED}% mirrored to green") as phase:
                pass
            _until(lambda: self._scored("green", endpoint.name) > before, "Green got no copies of the requests.")
            phase.copies = self._scored("green", endpoint.name) - before
            told += [f"{_MIRRORED}% of the requests mirrored to green", f"green saw copies of {phase.copies}"]

        endpoint.mirror_traffic = {}
        for share, said in ((10, "10% to green"), (100, "all to green")):
            with self._view.step(f"Moving {share}% of the requests to green") as told:
                endpoint.traffic = {"blue": 100 - share, "green": share}
                self._put(endpoint, told)
                with callers.phase(said) as phase:
                    pass
                told += [
                    f"{share}% of the requests moved to green",
                    f"it answered {phase.answers['green']} of {phase.answers.total()}",
                ]

        with self._view.step("Deleting blue") as told:
            self._client.online_deployments.begin_delete("blue", endpoint.name).result()
            with callers.phase("blue is deleted"):
                told.append("Blue deleted")

    def _delete(self, endpoint: OnlineEndpoint) -> None:
        with self._view.step("Deleting the endpoint") as told:
            self._client.online_endpoints.begin_delete(endpoint.name).result()
            told.append("Endpoint deleted")

    def _deploy(self, name: str) -> None:
        deployment = load_online_deployment(self._folder / f"{name}.yml")
        with self._view.step(f"Deploying {name}") as told:
            self._put(deployment, told)
            told.insert(0, f"{name.capitalize()} deployed: {deployment.instance_count} instances")

    def _put(self, entity: Any, told: list[str]) -> Any:
        """Create or change it; what the operation said is told once."""
        poller = self._client.begin_create_or_update(entity)
        made = poller.result()
        told += [note for note in poller.messages() if note not in self._notes]
        self._notes.update(poller.messages())
        return made

    def _answer(self, endpoint: str, deployment: str | None = None) -> str:
        answer = self._client.online_endpoints.invoke(endpoint, request_file=self._request, deployment_name=deployment)
        return f"{answer.deployment} says {answer} after {answer.latency_ms:.0f} ms"

    def _scored(self, deployment: str, endpoint: str) -> int:
        """Requests that a deployment's replicas have answered, by their logs."""
        return self._client.online_deployments.get_logs(deployment, endpoint, 5000).count("POST /score 200")


@define
class _Phase:
    """What callers met in one part of the story."""

    answers: Counter[str] = Factory(Counter)
    milliseconds: list[float] = Factory(list)
    failures: list[str] = Factory(list)
    copies: int = 0


class _Callers:
    """A light stream of requests until the block ends, counted by what was going on."""

    def __init__(self, client: MLClient, endpoint: str, request: bytes) -> None:
        self._client, self._endpoint, self._request = client, endpoint, request
        self._phase = _CHANGING
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call, name="callers", daemon=True)
        self.phases: dict[str, _Phase] = {}

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @contextmanager
    def phase(self, name: str) -> Iterator[_Phase]:
        """Count for `name` in the block, and until there is enough to count."""
        phase = self.phases[name] = _Phase()
        self._phase = name
        yield phase
        _until(
            lambda: phase.answers.total() + len(phase.failures) >= _ENOUGH, "The endpoint is too slow for its callers."
        )
        self._phase = _CHANGING

    def _call(self) -> None:
        while not self._ended.wait(_PAUSE):
            began = self._phase
            try:
                answer = self._client.online_endpoints.invoke(
                    self._endpoint, input_data=self._request, content_type="application/json", timeout=_PATIENCE
                )
            except ModelportError as error:
                self._during(began).failures.append(str(error))
            else:
                phase = self._during(began)
                phase.milliseconds.append(answer.latency_ms)
                phase.answers[str(answer.deployment)] += 1

    def _during(self, began: str) -> _Phase:
        """The phase of a request; one that a change overtook belongs to the change."""
        return self.phases.setdefault(began if began == self._phase else _CHANGING, _Phase())


@define
class _View:
    """The steps, each told when it has ended; on a terminal also what goes on now."""

    console: Console
    stop: _Stop
    callers: _Callers | None = None
    _doing: str = field(default="", init=False)
    _spinner: Spinner = field(factory=lambda: Spinner("dots"), init=False)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show what goes on now, until the block ends."""
        with Live(get_renderable=self._now, console=self.console, transient=True):
            yield

    @contextmanager
    def step(self, doing: str) -> Iterator[list[str]]:
        """A step, `doing` while it lasts; its block fills the list: what was done, then remarks."""
        self.stop.check()
        self._doing = doing
        told: list[str] = []
        began = time.monotonic()
        yield told
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(style="green")
        line.add_column(ratio=1)
        line.add_column(style="dim", no_wrap=True)
        mark = "✓" if self.console.encoding.startswith("utf") else "+"
        line.add_row(mark, told[0], f"{time.monotonic() - began:5.1f} s")
        self.console.print(line, *(Padding(Text(each, "dim"), (0, 8, 0, 2)) for each in told[1:]), sep="")
        self._doing = ""

    def _now(self) -> Group:
        self._spinner.update(text=self._doing)
        return Group(self._spinner, *([self._so_far(self.callers)] if self.callers else []))

    def _so_far(self, callers: _Callers) -> Text:
        phases = list(callers.phases.values())
        answers = sum((each.answers for each in phases), Counter[str]())
        failed = sum(len(each.failures) for each in phases)
        who = ", ".join(f"{name} {count}" for name, count in sorted(answers.items()))
        return Text(f"  callers: {answers.total()} answered ({who}), {failed} failed", "dim")


def _table(phases: dict[str, _Phase]) -> Table:
    """What answered what."""
    table = Table("who answered", title="What callers met", title_justify="left", title_style="bold")
    for heading in ("blue", "green", "copies to green", "failed", "median"):
        table.add_column(heading, justify="right")
    for name in sorted(phases, key=lambda each: each == _CHANGING):
        phase = phases[name]
        median = f"{statistics.median(phase.milliseconds):.1f} ms" if phase.milliseconds else ""
        counts = (phase.answers["blue"], phase.answers["green"], phase.copies, len(phase.failures))
        table.add_row(name, *map(str, counts), median)
    return table


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise ModelportError(f"{otherwise} Waited {_PATIENCE:g} s.")
        time.sleep(0.02)


def _remove(workspace: Path) -> bool:
    """End what runs in the workspace, and remove it; whether anything ran."""
    if not workspace.is_dir():
        return False
    ran = server.end(workspace)
    shutil.rmtree(open_home(workspace).runtime)
    shutil.rmtree(workspace)
    return ran


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off what would end this process until the block has ended."""
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in _ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """
    One quickstart at a time.

    Raises:
        errors.LocalServerError: There is one.
    """
    with (home / "quickstart.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"Another quickstart runs in '{home}'. Wait for its end, or give this one another --home."
            raise LocalServerError(message) from error
        yield
