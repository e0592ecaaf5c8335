"""
What an environment turned out to be, exactly: a file from which it can be made again.

Either a conda file with each version and build, which every tool that reads conda files
can take (this one too), or conda's *explicit* list of URLs and hashes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelport.builds.channels import masked
from modelport.builds.marks import Environment
from modelport.builds.venv import distributions


def conda_file(prefix: Path, environment: Environment) -> str:
    """A conda file with everything pinned."""
    records = _records(prefix)
    lines = [f"name: {_scalar(environment.name)}"] if environment.name else []
    channels = list(dict.fromkeys(str(each["channel"]).rstrip("/") for each in records))
    lines += ["channels:", *(f"  - {_scalar(each)}" for each in [*channels, "nodefaults"])] if channels else []
    lines.append("dependencies:")
    specs = ["{name}={version}={build}".format_map(each) for each in records]
    lines += [f"  - {_scalar(each)}" for each in specs or [f"python={_python_version(prefix)}"]]
    lines += ["  - pip:", *(f"    - {_scalar(each)}" for each in _pip(prefix))]
    return "".join(f"{line}\n" for line in lines)


def explicit(prefix: Path, environment: Environment) -> str:
    """URLs and hashes of the conda packages, and pins of what uv installed in comments, which conda passes over."""
    lines = [f"# Environment {environment.key}", *(f"# pip: {each}" for each in _pip(prefix)), "@EXPLICIT"]
    lines += [f"{each['url']}#{each['md5']}" if each.get("md5") else each["url"] for each in _records(prefix)]
    return "".join(f"{line}\n" for line in lines)


def _records(prefix: Path) -> list[Mapping[str, Any]]:
    """What conda's own records of installed packages say, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(prefix.glob("conda-meta/*.json"))]


def _pip(prefix: Path) -> Iterator[str]:
    for name, where, installer in distributions(prefix).values():
        if installer == "uv":
            yield masked(f"{name}{where}")


def _python_version(prefix: Path) -> str:
    said = re.search(r"^version_info = (\S+)$", (prefix / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE)
    return said[1] if said else "*"


def _scalar(text: str) -> str:
    """A string in YAML."""
    return text if re.fullmatch(r"[A-Za-z][\w.=+/!-]*(://[\w.:/@-]+)?", text) else json.dumps(text)
