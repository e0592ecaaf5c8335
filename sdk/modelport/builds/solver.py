"""
The program that solves and installs conda packages: `python -m modelport.builds.solver`.

rattler works here, in a process of its own: a build is then ended as every other program
is, holds its lock by itself, and leaves no threads and no memory in the server. It reads
an `Order` as JSON, says in lines what it does, and where it fails, ends with a line that
is a `Verdict` as JSON behind `VERDICT`: which of the user's lines is at fault, which
rattler says in a proof at best.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import Factory, define, field, frozen

from modelport.builds.channels import Channel

VERDICT = "verdict: "
_SEARCHING = 15.0
"""Seconds to spend on finding out which lines exclude each other."""


@frozen(kw_only=True)
class Order:
    """What to install, and where."""

    prefix: str
    lock: str
    """Path of the file that has the solution, or gets it."""
    specs: Sequence[str]
    """In rattler's words, with channels as URLs."""
    channels: Sequence[Channel]
    offline: bool = False
    anew: bool = False
    """Solve, although there is a lock."""

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def load(cls, text: str) -> Order:
        """From JSON."""
        said = json.loads(text)
        return cls(**{**said, "channels": [Channel(**each) for each in said["channels"]]})


@frozen(kw_only=True)
class Verdict:
    """Why it failed."""

    kind: str
    """`spec`: a line is none; `unsolvable`: lines cannot be met; `channel`: one cannot be asked; `absent`: packages are
    not in the cache, and the network is off; `stale`: the lock cannot be met, and another solution may be; `other`."""
    reason: str
    """In rattler's words."""
    specs: Sequence[int] = ()
    """Which of the order's are at fault."""
    channel: str = ""
    """URL of the channel at fault."""
    packages: Sequence[str] = ()
    """Files of the packages at fault."""

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def load(cls, text: str) -> Verdict:
        """From JSON."""
        return cls(**json.loads(text))


class _Refused(Exception):  # noqa: N818 - it carries a verdict
    def __init__(self, **verdict: Any) -> None:
        super().__init__()
        self.verdict = Verdict(**verdict)


@define
class _Reporter:
    """Says what is downloaded; its methods are called from rattler's threads, under rattler's names."""

    records: Sequence[Any]
    names: dict[int, str] = field(factory=dict)

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        """A package is looked for in the cache."""
        self.names[operation] = package_name
        return operation

    def on_download_start(self, cache_entry: int) -> int:
        """It is not there."""
        name = self.names.get(cache_entry, "")
        found = next((each for each in self.records if each.name.normalized == name), None)
        if found:
            size = f" ({max(found.size / 1e6, 0.1):.1f} MB)" if found.size else ""
            _say(f"Downloading {name} {found.version}{size}")
        return cache_entry

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_: 0


@define
class _Job:
    """One order, carried out with rattler's module, which is loaded last: it may not be installed."""

    order: Order
    rattler: Any = Factory(lambda: import_module("rattler"))
    errors: Any = Factory(lambda: import_module("rattler.exceptions"))

    async def run(self) -> None:
        locked = self.locked()
        try:
            await self.install(locked or await self.solve())
        except _Refused as refused:
            if not locked or refused.verdict.kind != "other" or self.order.offline:
                raise
            # What a channel has removed, or put another in the place of, is in no lock that can be met. Another process
            # solves again: a failed install's threads write into the prefix and the cache until this one ends.
            raise _Refused(kind="stale", reason=refused.verdict.reason) from refused

    async def install(self, records: Sequence[Any]) -> None:
        if self.order.offline:
            await self.refuse_absent(records)
        _say(f"Installing {len(records)} conda packages")
        try:
            await self.rattler.install(
                records,
                self.order.prefix,
                cache_dir=_cache() / "pkgs",
                installed_packages=[],
                show_progress=False,
                client=self.client(),
                reporter=_Reporter(records),
            )
        except self.errors.InstallerError as error:
            refused = re.search(r"error sending request|HTTP status [\w ]*\((401|403|5\d\d)", str(error))
            channel = self.channel_in(str(error))
            kind = "channel" if refused else "other"
            raise _Refused(kind=kind, reason=str(error), channel=channel) from error

    def locked(self) -> list[Any]:
        """The packages of the lock; none when there is no lock, or it is not to be looked at."""
        path = Path(self.order.lock)
        if self.order.anew or not path.exists():
            return []
        environment = self.rattler.LockFile.from_path(path).default_environment()
        records = environment.conda_repodata_records_for_platform(environment.platforms()[0])
        _say(f"Found a lock with {len(records)} conda packages")
        return list(records)

    async def solve(self) -> list[Any]:
        specs = [self.spec(index) for index in range(len(self.order.specs))]
        _say(f"Reading {', '.join(dict.fromkeys(each.name for each in self.order.channels))}")
        gateway = self.rattler.Gateway(
            cache_dir=_cache() / "repodata",
            default_config=self.rattler.SourceConfig(
                cache_action="force-cache-only" if self.order.offline else "cache-or-fetch"
            ),
            client=self.client(),
        )
        began = time.monotonic()
        try:
            records = await self.solved(specs, gateway)
        except self.errors.GatewayError as error:
            raise _Refused(kind="channel", reason=str(error), channel=self.channel_in(str(error))) from error
        except self.errors.SolverError as error:
            raise await self.explained(specs, gateway, str(error)) from error
        _say(f"Solved in {time.monotonic() - began:.1f} s: {len(records)} conda packages")
        self.keep(records)
        return records

    def spec(self, index: int) -> Any:
        try:
            return self.rattler.MatchSpec(self.order.specs[index])
        except self.errors.InvalidMatchSpecError as error:
            raise _Refused(kind="spec", reason=str(error), specs=[index]) from error

    async def solved(self, specs: Sequence[Any], gateway: Any) -> list[Any]:
        found: list[Any] = await self.rattler.solve(
            [self.rattler.Channel(each.url) for each in self.order.channels],
            specs,
            gateway=gateway,
            virtual_packages=self.rattler.VirtualPackage.detect(self.rattler.VirtualPackageOverrides.from_env()),
        )
        return found

    async def explained(self, specs: list[Any], gateway: Any, reason: str) -> _Refused:
        """The verdict on what cannot be solved: those lines that cannot be met together, and no other."""
        guilty = list(range(len(specs)))
        deadline = time.monotonic() + _SEARCHING
        for index in reversed(range(len(specs))):  # what scoring needs stands last: rather a line of the user's stays
            rest = [each for each in guilty if each != index]
            if not rest or time.monotonic() > deadline:
                break
            try:
                await self.solved([specs[each] for each in rest], gateway)
            except self.errors.SolverError as error:
                guilty, reason = rest, str(error)
        return _Refused(kind="unsolvable", reason=reason, specs=guilty)

    def keep(self, records: Sequence[Any]) -> None:
        """Write the lock, at once."""
        platform = self.rattler.LockPlatform(str(self.rattler.Subdir.current()))
        lock = self.rattler.LockFile([platform])
        lock.set_channels("default", [self.rattler.Channel(each.url).to_lock_channel() for each in self.order.channels])
        for record in records:
            lock.add_conda_package("default", platform, record)
        part = Path(f"{self.order.lock}.{os.getpid()}")
        lock.to_path(part)
        part.replace(self.order.lock)

    async def refuse_absent(self, records: Sequence[Any]) -> None:
        cached = await self.rattler.PackageCache(_cache() / "pkgs").index()
        absent = [
            each.file_name for each in records if not each.url.startswith("file:") and not cached.contains_record(each)
        ]
        if absent:
            raise _Refused(kind="absent", reason="", packages=sorted(absent))

    def client(self) -> Any:
        """What sends requests: with the passwords and tokens that channels were written with, and the user's own."""
        networking = import_module("rattler.networking.middleware")
        tokens = {each.url: [each.asked] for each in self.order.channels if each.token}
        middlewares = [networking.RetryMiddleware(2)]
        if any(each.user for each in self.order.channels):
            middlewares.append(networking.AddHeadersMiddleware(self.headers))
        if tokens:
            middlewares.append(networking.MirrorMiddleware(tokens))
        middlewares.append(networking.AuthenticationMiddleware())
        return self.rattler.networking.Client(middlewares)

    def headers(self, host: str, path: str) -> dict[str, str] | None:
        for each in self.order.channels:
            places = [urlsplit(place) for place in (each.url, each.asked)]
            if each.user and any(host == it.hostname and path.startswith(f"{it.path}/") for it in places):
                said = base64.b64encode(f"{each.user}:{each.password}".encode()).decode()
                return {"Authorization": f"Basic {said}"}
        return None

    def channel_in(self, reason: str) -> str:
        """URL of the channel that rattler's words are about."""
        # Of tokens and passwords it shows stars.
        said = re.sub(r"/t/[^/]+/", "/", re.sub(r"(?<=://)[^/@\s]+@", "", reason))
        return max((each.url for each in self.order.channels if f"{each.url}/" in said), key=len, default="")


def main() -> int:
    """Carry out the order that stands on standard input."""
    warnings.simplefilter("ignore")  # of rattler's, about relations between channels: they are for those who make them
    order = Order.load(sys.stdin.read())
    try:
        asyncio.run(_Job(order).run())
    except _Refused as refused:
        verdict = refused.verdict
    except Exception as error:  # noqa: BLE001 - rattler has some forty kinds, and the disk a few
        verdict = Verdict(kind="other", reason=f"{type(error).__name__}: {error}")
    else:
        return 0
    for line in verdict.reason.splitlines():
        _say(line)
    _say(VERDICT + verdict.dump())
    return 1


def _cache() -> Path:
    """Where rattler has its cache: its packages are shared with everything else that uses rattler."""
    said = os.environ.get("RATTLER_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / (
        "Library/Caches" if sys.platform == "darwin" else ".cache"
    )
    return Path(said) if said else Path(base) / "rattler" / "cache"


def _say(line: str) -> None:
    # One write, because rattler's threads say things too.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Not sys.exit(): rattler's threads may call Python still, and abort the process when that is being torn down.
    os._exit(main())
