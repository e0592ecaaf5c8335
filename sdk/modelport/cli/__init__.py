"""The command line: `modelport`. click and rich belong to the extra `local`."""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> None:
    """Run the command line; say what to install where its libraries are missing."""
    try:
        commands = import_module("modelport.cli.commands")
    except ModuleNotFoundError as error:
        sys.exit(f"The modelport command needs {error.name}: pip install 'modelport[local]'")
    commands.modelport()
