"""The commands about environments: which there are, making one ahead of time, removing and writing them down."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click
import psutil
from attrs import asdict

from modelport.builds import marks, pins
from modelport.builds.base import Wanted
from modelport.builds.marks import Environment
from modelport.builds.prefix import PrefixBuilder
from modelport.controlplane.workspace import MOST_BYTES
from modelport.schema import files
from modelport.transports import launch

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_home = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=None,
    help="The workspace's folder [MODELPORT_HOME, ~/.modelport].",
)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


def _bytes(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", value, re.IGNORECASE)
    if not said:
        raise click.BadParameter(f"'{value}' is not a number of bytes; write it like 500M or 20G.")
    return int(float(said[1]) * _UNITS[said[2].upper()])


@click.group()
def env() -> None:
    """Show, build, remove and export the environments of deployments."""


@env.command("list")
@_home
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(home: Path | None, as_json: bool) -> None:
    """Show the environments: key, size, last use, and what they are of."""
    found = [each for each in _builder(home).environments() if each.whole]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in reversed(found):
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_used))
        name = f"{each.name}: " if each.name else ""
        click.echo(f"{each.key}  {_size(each.size_bytes):>8}  {used}  {name}{', '.join(each.asked)}")
    if not found:
        click.echo("There are no environments.")


@env.command()
@_home
@click.option("--offline", is_flag=True, help="Use only what is in the caches of uv and rattler.")
@click.argument("file", type=_file)
def build(home: Path | None, file: Path, offline: bool) -> None:
    """Build the environment of a conda file ahead of time."""
    built = _builder(home, offline=offline).build(_wanted(file), lambda line: click.echo(line, err=True))
    for warning in built.warnings:
        click.echo(warning, err=True)
    click.echo(f"key: {built.key}\npython: {built.python}")


@env.command()
@_home
@click.option("--all", "everything", is_flag=True, help="Remove all.")
@click.option("--max-bytes", callback=_bytes, default=str(MOST_BYTES), show_default="20G", help="How much may be left.")
def prune(home: Path | None, everything: bool, max_bytes: int) -> None:
    """
    Remove environments, the longest unused first. Those that run now stay.

    What a deployment needs is built again when the server comes up.
    """
    builder = _builder(home)
    sizes = {each.key: each.size_bytes for each in builder.environments()}
    removed = builder.prune(_running(_cache(home)), None if everything else max_bytes)
    for key in removed:
        click.echo(f"Removed {key} ({_size(sizes.get(key, 0))})")
    if not removed:
        click.echo("Nothing was removed.")


@env.command()
@_home
@click.option("--explicit", is_flag=True, help="Write conda's list of URLs and hashes instead of a conda file.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file.")
@click.argument("file_or_key")
def export(home: Path | None, file_or_key: str, explicit: bool, output: Path | None) -> None:
    """Write a file with the exact versions of an environment, given its key or its conda file."""
    found = _environment(home, file_or_key)
    prefix = _cache(home) / found.key
    text = pins.explicit(prefix, found) if explicit else pins.conda_file(prefix, found)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(output)


def _environment(home: Path | None, file_or_key: str) -> Environment:
    builder = _builder(home)
    is_file = Path(file_or_key).is_file()
    if not is_file and not marks.is_key(file_or_key):
        raise click.BadParameter(
            f"'{file_or_key}' is neither a file nor the key of an environment; `modelport env list` shows the keys.",
            param_hint="FILE_OR_KEY",
        )
    key = builder.key(_wanted(Path(file_or_key))) if is_file else file_or_key
    if not builder.has(key):
        remedy = f"run `modelport env build {file_or_key}`" if is_file else "`modelport env list` shows those that are"
        raise click.ClickException(f"The environment {key} is not built: {remedy}.")
    return next(each for each in builder.environments() if each.key == key)


def _running(cache: Path) -> set[str]:
    """Keys of the environments whose Python runs now."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        for word in (process.info["cmdline"] or [])[:1]:
            path = Path(word)
            found |= {parent.name for parent in path.parents if parent.parent == cache}
    return found


def _wanted(file: Path) -> Wanted:
    return Wanted(conda=files.read_mapping(file))


def _cache(home: Path | None) -> Path:
    return ((home or launch.home_folder()).expanduser() / "environments").resolve()


def _builder(home: Path | None, *, offline: bool = False) -> PrefixBuilder:
    return PrefixBuilder(_cache(home), offline=offline)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 10**9 else f"{size_bytes / 1e6:.0f} MB"
