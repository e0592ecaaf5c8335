"""The commands. Each says what it does in its help, which `modelport --help` shows."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from modelport import __version__
from modelport.cli import environments
from modelport.cli import server as background
from modelport.client import MLClient
from modelport.controlplane import workspace
from modelport.errors import ModelportError
from modelport.transports import launch

_home = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=None,
    help="The workspace's folder [MODELPORT_HOME, ~/.modelport].",
)


class _Group(click.Group):
    """Our errors are sentences for people, not tracebacks."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except ModelportError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="modelport")
def modelport() -> None:
    """Azure ML's online endpoints on this machine."""


@modelport.command()
@_home
@click.option("--backend", type=click.Choice(["process", "docker"]), default=None, help="What runs replicas.")
def up(home: Path | None, backend: str | None) -> None:
    """Start the background server, which brings the endpoints back; without --backend, those of both backends."""
    there = launch.homes(_folder(home))
    if backend:
        folders = [(home or launch.home_folder(backend)).expanduser().resolve()]
    else:
        folders = [each for each in there if (each / "state.db").exists()] or there[:1]
    for folder in folders:
        server = launch.find_or_start(folder, backend)
        click.echo(f"Modelport {server.version} is up: process {server.pid}, {server.url}")


@modelport.command()
@_home
def down(home: Path | None) -> None:
    """End the background servers with all replicas. Endpoints are remembered for the next `up`."""
    ended = [folder for folder in launch.homes(_folder(home)) if background.end(folder)]
    click.echo("Modelport is down." if ended else "Modelport is not up.")


@modelport.command()
@_home
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(home: Path | None, as_json: bool) -> None:
    """Show whether the servers are up, and the endpoints with their traffic."""
    said = [_status(folder) for folder in launch.homes(_folder(home))]
    if as_json:
        # That of Docker stands in the other one, as its folder does.
        click.echo(json.dumps({**said[0], **({"docker": said[1]} if said[1:] else {})}))
        return
    click.echo("\n".join(line for each in said for line in _told(each)))


@modelport.command()
@_home
def prune(home: Path | None) -> None:
    """Remove environments and images that no deployment is served from, and what other workspaces left in Docker."""
    removed = []
    for folder in launch.homes(_folder(home)):
        backend = launch.backend_of(folder)
        if not (folder / "state.db").exists():
            continue
        removed += workspace.prune(folder, backend)
        if backend == "docker":
            removed += import_module("modelport.backends.docker").prune()
    click.echo("\n".join(f"Removed {each}" for each in removed) or "There was nothing to remove.")


@modelport.command()
@_home
@click.option("--keep", is_flag=True, help="Leave the endpoint up, and say how to call it.")
def quickstart(home: Path | None, keep: bool) -> None:
    """Watch a model replace another while it is in use: about a minute the first time."""
    story = import_module("modelport.cli.quickstart")  # rich is for this command alone
    try:
        story.quickstart(_folder(home), keep=keep)
    except KeyboardInterrupt as error:
        raise click.ClickException("The quickstart was stopped; nothing runs any more.") from error


@modelport.command()
@_home
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def apply(home: Path | None, files: tuple[Path, ...], dry_run: bool) -> None:
    """
    Bring about what YAML files or folders say: assets, endpoints, deployments and traffic.

    What is as it should be is left alone, so that a run that failed goes on when it is repeated.
    """
    server = launch.find_or_start(_folder(home))
    applied = MLClient.connect(server.url, credential=server.token).apply(files, dry_run=dry_run)
    for step in applied.steps:
        click.echo(step)
    for endpoint in (each for each in applied if getattr(each, "scoring_uri", None)):
        click.echo(f"{endpoint.name}: {endpoint.scoring_uri}")  # type: ignore[attr-defined] # (the filter above)


@modelport.command()
@_home
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def watch(home: Path | None, file: Path) -> None:
    """Deploy what a deployment's YAML file says, and again whenever its code changes, until Ctrl-C."""
    server = launch.find_or_start(_folder(home))
    client = MLClient.connect(server.url, credential=server.token)
    import_module("modelport.cli.watch").follow(client, file, click.echo)


@modelport.command()
@click.argument("kind", required=False)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Write files into this folder.")
def schema(kind: str | None, output: Path | None) -> None:
    """
    Write the JSON Schema of YAML files, which editors complete and check them by.

    KIND is one of them, such as managedOnlineDeployment. Without it all are written; without --output it is printed,
    or the kinds that there are.
    """
    schemas = import_module("modelport.schema.editors").schemas()
    if kind is not None and kind not in schemas:
        raise click.BadParameter(f"'{kind}' is not one of {', '.join(schemas)}.", param_hint="KIND")
    if output is None:
        click.echo(json.dumps(schemas[kind], indent=2) if kind else "\n".join(schemas))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name in [kind] if kind else schemas:
        path = output / f"{name}.schema.json"
        path.write_text(json.dumps(schemas[name], indent=2) + "\n", encoding="utf-8")
        click.echo(path)


@modelport.command(hidden=True)
@_home
@click.option("--backend", default="process")
def serve(home: Path | None, backend: str) -> None:
    """Be the background server. Clients run this; `up` does it for people."""
    background.serve(_folder(home), backend)


modelport.add_command(environments.env)


def _folder(home: Path | None) -> Path:
    return (home or launch.home_folder()).expanduser().resolve()


def _status(folder: Path) -> dict[str, Any]:
    """`{"up", "home", "backend", …}`, with endpoints when it is up and what runs without it when it is not."""
    found = launch.find(folder)
    if found is None:
        said = {"up": False, "home": str(folder), "backend": launch.backend_of(folder), "left_running": []}
        try:
            return {**said, "left_running": background.left_running(folder)}
        except ModelportError as error:  # what runs in Docker is not known
            return {**said, "error": str(error)}
    client = MLClient.connect(found.url, credential=found.token)
    said = {"up": True, "home": str(folder), "backend": found.backend, "url": found.url, "pid": found.pid}
    return {
        **said,
        "version": found.version,
        "endpoints": [_about(client, each) for each in client.online_endpoints.list()],
    }


def _told(said: dict[str, Any]) -> list[str]:
    """A status, for people."""
    if not said["up"]:
        in_docker, left = said["backend"] == "docker", said["left_running"]
        text = f"Modelport{' in Docker' if in_docker else ''} is not up."
        text += f" {said['error']}" if "error" in said else ""
        if left:
            text += (
                f" Its server died, and {len(left)} processes serve on with nobody to restart them: "
                f"run `modelport up{' --backend docker' if in_docker else ''}` to manage them again, or "
                "`modelport down` to end them."
            )
        return [text]
    lines = [
        f"Modelport {said['version']} is up: process {said['pid']}, {said['url']}, '{said['home']}' ({said['backend']})"
    ]
    for each in said["endpoints"]:
        lines.append(f"  {each['name']}: {each['state']}  {each['scoring_uri']}")
        lines += [
            f"    {deployment['name']}: {deployment['state']}, {_counted(deployment['instances'], 'instance')}, "
            f"{deployment['traffic']}% of the traffic"
            for deployment in each["deployments"]
        ]
    return lines


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _about(client: MLClient, endpoint: Any) -> dict[str, Any]:
    deployments = client.online_deployments.list(endpoint.name)
    return {
        "name": endpoint.name,
        "state": endpoint.provisioning_state,
        "scoring_uri": endpoint.scoring_uri,
        "deployments": [
            {
                "name": each.name,
                "state": each.provisioning_state,
                "instances": each.instance_count,
                "traffic": (endpoint.traffic or {}).get(each.name, 0),
            }
            for each in deployments
        ],
    }
