"""What a model is packaged as: an environment with the model, its code and a server in it. All of it is only sent."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import attrs

from modelport.entities.base import Entity, Problem, Variants, field
from modelport.entities.settings import CodeConfiguration, Route
from modelport.entities.words import Choice

_MODES = Choice({"copy": "Copy", "download": "Download"})
_INPUTS = Choice({"uri_file": "UriFile", "uri_folder": "UriFolder"})
_INPUT_MODES = Choice({"read_only_mount": "ReadOnlyMount", "download": "Download"})
_VERSIONED = re.compile(r"azureml:(?P<name>[\w.-]+):(?P<version>\w+)")


@attrs.define
class OnlineInferenceConfiguration(Entity):
    """Where a server of one's own is asked."""

    liveness_route: Route | None = field()
    """Whether it lives."""

    readiness_route: Route | None = field()
    """Whether it is ready."""

    scoring_route: Route | None = field()
    """For a score."""

    entry_script: str | None = field()
    """The script that it runs."""

    configuration: dict[str, Any] | None = field(wire=None)
    """Taken for Azure's sake, whose SDK does not send it either."""


@attrs.define(kw_only=True)
class InferencingServer(Entity):
    """The server in a package."""

    variants = Variants(file="type", wire="serverType", default="azureml_online")

    @property
    def type(self) -> str:
        """Which one, as files say it."""
        return self.variant[0] if self.variant else ""


@attrs.define(kw_only=True)
class AzureMLOnlineInferencingServer(InferencingServer):
    """The scoring server of online endpoints."""

    variant = ("azureml_online", "AzureMLOnline")

    code_configuration: CodeConfiguration | None = field()
    """The scoring script."""


@attrs.define(kw_only=True)
class AzureMLBatchInferencingServer(InferencingServer):
    """The scoring server of batch endpoints."""

    variant = ("azureml_batch", "AzureMLBatch")

    code_configuration: CodeConfiguration | None = field()
    """The scoring script."""


@attrs.define(kw_only=True)
class TritonInferencingServer(InferencingServer):
    """NVIDIA Triton."""

    variant = ("triton", "Triton")

    inference_configuration: OnlineInferenceConfiguration | None = field()
    """Where it is asked."""


@attrs.define(kw_only=True)
class CustomInferencingServer(InferencingServer):
    """A server of one's own."""

    variant = ("custom", "Custom")

    inference_configuration: OnlineInferenceConfiguration | None = field()
    """Where it is asked."""


@attrs.define
class BaseEnvironment(Entity):
    """The environment that a package is built upon."""

    type: str | None = field(wire="baseEnvironmentSourceType")
    """`asset`, as far as Azure documents it."""

    resource_id: str | None = field()
    """The environment: `azureml:name:version`, an ARM id, or one of a registry."""


@attrs.define(kw_only=True)
class ModelConfiguration(Entity):
    """How the model comes into the package."""

    mode: Annotated[str, _MODES] | None = field(convert=_MODES.python)
    """`copy`: it is in the image; `download`: the container fetches it when it starts."""

    mount_path: str | None = field()
    """Where it is found in the container."""


@attrs.define(kw_only=True)
class PackageInputPath(Entity):
    """Where a further input is."""

    variants = Variants(file="input_path_type", wire="inputPathType", default="path_id")

    input_path_type: str | None = field(wire=None, file=False, eq=False, show=False)
    """Taken for Azure's sake: the class says it."""


@attrs.define(kw_only=True)
class PackageInputPathId(PackageInputPath):
    """An input by its id."""

    variant = ("path_id", "PathId")

    resource_id: str | None = field()
    """`azureml://…/data/{name}/versions/{version}`."""


@attrs.define(kw_only=True)
class PackageInputPathUrl(PackageInputPath):
    """An input by its URL."""

    variant = ("url", "Url")

    url: str | None = field()
    """The URL."""


@attrs.define(kw_only=True)
class PackageInputPathVersion(PackageInputPath):
    """An input by its name and version."""

    variant = ("path_version", "PathVersion")

    resource_name: str | None = field()
    """Name of the asset."""

    resource_version: str | None = field()
    """Its version."""


@attrs.define(kw_only=True)
class ModelPackageInput(Entity):
    """A further input of a package."""

    type: Annotated[str, _INPUTS] | None = field(wire="inputType", convert=_INPUTS.python)
    """`uri_file` or `uri_folder`."""

    path: PackageInputPath | None = field()
    """Where it is."""

    mode: Annotated[str, _INPUT_MODES] | None = field(convert=_INPUT_MODES.python)
    """`read_only_mount` or `download`."""

    mount_path: str | None = field()
    """Where it is found in the container."""


def _environment(said: Any) -> Any:
    """Azure's SDK takes `{"name": …}` too."""
    return said.get("name") if isinstance(said, dict) else said


@attrs.define(kw_only=True)
class ModelPackage(Entity):
    """What `ml_client.models.package` is asked for."""

    target_environment: str | None = field(wire="targetEnvironmentId", required=True, convert=_environment)
    """The environment that comes out: a name, which takes the next version, or `azureml:name:version`."""

    inferencing_server: InferencingServer | None = field(required=True)
    """The server in it."""

    base_environment_source: BaseEnvironment | None = field()
    """What it is built upon; None lets the service choose."""

    environment_variables: dict[str, str] | None = field()
    """For the server."""

    inputs: list[ModelPackageInput] | None = field()
    """Further inputs."""

    model_configuration: ModelConfiguration | None = field()
    """How the model comes into it."""

    tags: dict[str, str] | None = field()
    """Labels."""

    def check(self) -> Iterator[Problem]:
        """It is made for an environment, and has a server."""
        if not self.target_environment:
            yield Problem("target_environment", "Name the environment that the package becomes.")
        if self.inferencing_server is None:
            yield Problem("inferencing_server", "Say which server is packaged, e.g. AzureMLOnlineInferencingServer().")

    def target(self) -> str:
        """The environment as a place in a workspace: `environments/{name}`, with the version when one was said."""
        said = self.target_environment or ""
        found = _VERSIONED.fullmatch(said)
        return f"environments/{found['name']}/versions/{found['version']}" if found else f"environments/{said}"
