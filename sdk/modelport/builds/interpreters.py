"""
Which Pythons an image has, asked once: a container of it runs a few lines of shell.

The order is Azure's and that of common images: what `AZUREML_CONDA_ENVIRONMENT_PATH`
says, what stands on PATH, then conda's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from docker import DockerClient
from docker.errors import APIError

from modelport import engine, errors
from modelport.builds import layers

_NO_SHELL = (126, 127)
"""How what cannot be run ends."""

_ASK = r"""
import json, sys, sysconfig
try:
    from importlib.util import find_spec
    azure = find_spec("azureml_inference_server_http") is not None
except ImportError:
    azure = False
try:
    from importlib.metadata import distributions
    packages = sorted({"%s==%s" % (d.metadata["Name"], d.version) for d in distributions() if d.metadata["Name"]})
except ImportError:
    packages = []
paths = sysconfig.get_paths()
print("python " + json.dumps({
    "path": sys.executable,
    "version": sys.version_info[:3],
    "azure": azure,
    "packages": packages,
    "folders": sorted({paths["purelib"], paths["platlib"]}) if sys.prefix != sys.base_prefix else [],
}))
"""
_PROBE = r"""
for each in ${AZUREML_CONDA_ENVIRONMENT_PATH:+"$AZUREML_CONDA_ENVIRONMENT_PATH/bin/python"} \
    python3 python /usr/local/bin/python3 /usr/bin/python3 /opt/conda/bin/python /opt/miniconda/bin/python; do
  found=$(command -v "$each") && "$found" -c "$MODELPORT_ASK" 2>/dev/null
done
for each in conda mamba micromamba /opt/conda/bin/conda /opt/miniconda/bin/conda; do
  found=$(command -v "$each") && echo "conda $found"
done
exit 0
"""


@frozen(kw_only=True)
class Interpreter:
    """A Python in an image."""

    path: str
    version: tuple[int, int, int]
    azure: bool = False
    """Whether it has azureml-inference-server-http."""
    packages: tuple[str, ...] = ()
    """What is installed, as `name==version`."""
    folders: tuple[str, ...] = ()
    """Where its packages are, when it is a virtual environment's."""

    def __str__(self) -> str:
        return "Python " + ".".join(map(str, self.version))


@frozen(kw_only=True)
class Found:
    """What an image has for making an environment."""

    shell: bool = True
    """Whether it has `sh`, without which nothing can be added."""
    pythons: tuple[Interpreter, ...] = field(default=())
    conda: str = ""
    """Path of conda, mamba or micromamba; empty when there is none."""


def found_in(client: DockerClient, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """
    What `image`, an id, has: a document for `parsed`. `labels` are those of the container that looks.

    Raises:
        errors.ImageBuildFailure: It is for another processor, or its shell was ended, by which nothing is known.
        errors.ModelportError: The engine's, see `engine.told`.
    """
    with engine.told(f"Image '{image}'"):
        container = client.containers.create(
            image,
            ["-c", _PROBE],
            entrypoint=["sh"],
            user="0",
            labels=dict(labels),
            environment={"MODELPORT_ASK": _ASK},
            network_mode="none",
        )
        try:
            try:
                container.start()
            except APIError as error:
                if "executable file not found" in str(error) or "no such file" in str(error):
                    return {"shell": False, "lines": []}
                raise
            status = container.wait()["StatusCode"]
            ran = status == 0
            said = container.logs(stderr=not ran).decode("utf-8", "replace")
            if "exec format error" in said:
                raise errors.ImageBuildFailure(
                    f"Image '{image}' is for another processor than this machine's. Ask for one that is for this one."
                )
            if status not in (0, *_NO_SHELL):
                raise errors.ImageBuildFailure(
                    f"Image '{image}' could not be looked into: its `sh` ended with status {status}. Try again; "
                    f"`docker run --entrypoint sh {image}` shows whether it runs."
                )
            return {"shell": ran, "lines": said.splitlines() if ran else []}
        finally:
            layers.remove(client, container.id)


def parsed(document: Mapping[str, Any]) -> Found:
    """What `found_in` returned, for use."""
    said: dict[str, list[str]] = {"python": [], "conda": []}
    for line in document["lines"]:
        kind, _, rest = line.partition(" ")
        said.setdefault(kind, []).append(rest)
    pythons = {each["path"]: each for each in map(json.loads, said["python"])}
    return Found(
        shell=document["shell"],
        pythons=tuple(
            Interpreter(
                path=each["path"],
                version=tuple(each["version"]),
                azure=each["azure"],
                packages=tuple(each["packages"]),
                folders=tuple(each["folders"]),
            )
            for each in pythons.values()
            if each["version"] >= [3]
        ),
        conda=next(iter(said["conda"]), ""),
    )
