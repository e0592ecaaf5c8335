"""`modelport watch`: a deployment from a file, which follows its code until Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelport.client import MLClient
from modelport.operations.loading import load_online_deployment
from modelport.operations.watching import Update


def follow(client: MLClient, file: Path, tell: Callable[[str], None]) -> None:
    """
    Deploy what a file says, and again whenever its code changes; returns when nothing is left to follow.

    Args:
        client: Of a workspace on this machine, which has the endpoint.
        file: A deployment, in YAML.
        tell: Is given a line for each update.

    Raises:
        errors.ModelportError: It cannot be deployed as it is now.
    """
    deployment = load_online_deployment(file)
    name = f"{deployment.endpoint_name}/{deployment.name}"
    poller = client.online_deployments.begin_create_or_update(deployment, watch=True)
    watch = poller.watch
    assert watch
    watch.add_callback(lambda update: tell(f"{name}: {_told(update)}"))
    try:
        poller.result()
        tell(f"{name} is there. Watching '{watch.folder}'; end this with Ctrl-C.")
        while not watch.wait(1):
            pass
        tell(f"{name} is no longer followed: it was deleted.")
    except KeyboardInterrupt:
        tell(f"{name} stays as it is.")
    finally:
        watch.close()


def _told(update: Update) -> str:
    if update.error is None:
        return f"updated in {update.seconds:.1f} s."
    return f"the code of before goes on. {update.error.message}"
