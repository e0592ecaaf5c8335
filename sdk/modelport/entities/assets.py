"""What a deployment is made of: models, environments and code, each with a name and a version."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import attrs
from attrs.validators import in_

from modelport.entities.base import Entity, Problem, field, path_text
from modelport.entities.settings import InferenceConfig, Route
from modelport.entities.words import Choice, CondaSpec, Path, Texts, Version, Wrapped

_SYSTEMS = Choice({"linux": "linux", "windows": "windows"})

ANONYMOUS_ENVIRONMENT = "CliV2AnonymousEnvironment"
"""The name under which Azure's SDK registers an environment that was given none."""


@attrs.define(kw_only=True)
class Artifact(Entity):
    """Something with a name, versions that never change, and a place where its files are."""

    home = "properties"

    name: str | None = field(identity=True)
    """Name; None makes it anonymous: named by its content."""

    version: Annotated[str, Version()] | None = field(identity=True, convert=Version.python)
    """Version; None takes the next one, or the present one when the content is the same."""

    description: str | None = field()
    """Free text."""

    is_anonymous: bool = field(False, file=False, show=False)
    """Whether it was made for one deployment only."""

    is_archived: bool | None = field(False, file=False, show=False)
    """Whether lists leave it out."""

    datastore: str | None = field(wire=None, eq=False, show=False)
    """The datastore that its files are put in; None is the workspace's own, `workspaceblobstore`."""

    id: str | None = field(wire="/id", owned=True, file=False, eq=False)
    """ARM id."""

    provisioning_state: str | None = field(owned=True, file=False, eq=False, show=False)
    """`Succeeded`, as some versions of the service say of assets too."""

    system_data: dict[str, Any] | None = field(wire="/systemData", owned=True, file=False, eq=False, show=False)
    """Who made it and changed it last, and when, as the service says."""

    latest_version: str | None = field(owned=True, file=False, eq=False, show=False)
    """Of a container (a name without a version): the newest version."""

    next_version: str | None = field(owned=True, file=False, eq=False, show=False)
    """Of a container: the version that the next one gets."""

    def check(self) -> Iterator[Problem]:
        """A version belongs to a name, and both are steps of a URL."""
        for part in ("name", "version"):
            if re.search(r"[/\\?#%\s]", getattr(self, part) or ""):
                yield Problem(
                    part, f"'{getattr(self, part)}' has a letter that no URL step can have: use [-_.a-zA-Z0-9]."
                )
        if self.version is not None and self.name is None:
            yield Problem("name", "If version is specified, name must be specified also.")


def _inference(said: Any) -> Any:
    """Azure's SDK takes it as a mapping, `{"scoring_route": {"port", "path"}, …}`."""
    if not isinstance(said, dict):
        return said
    return InferenceConfig(**{name: Route(**each) if isinstance(each, dict) else each for name, each in said.items()})


def _template(said: Any) -> Any:
    return DeploymentTemplateReference(**said) if isinstance(said, dict) else said


def _templates(said: Any) -> Any:
    return [_template(each) for each in said]


@attrs.define(kw_only=True)
class DeploymentTemplateReference(Entity):
    """A deployment template, by its id."""

    asset_id: str | None = field()
    """`azureml://registries/{registry}/deploymentTemplates/{name}/versions/{version}`."""


@attrs.define(kw_only=True)
class Model(Artifact):
    """A file or a folder that a scoring script loads."""

    place = "models/{name}/versions/{version}"

    type: str | None = field(
        "custom_model", wire="modelType", check=in_(["custom_model", "mlflow_model", "triton_model"])
    )
    """What the files are: `custom_model`, `mlflow_model` or `triton_model`."""

    path: Path | None = field(wire="modelUri", convert=path_text)
    """A local file or folder, `azureml://…`, `runs:/…` or another URI."""

    tags: Annotated[dict[str, str], Texts()] = field(factory=dict)
    """Labels; values are made text, as Azure does."""

    properties: Annotated[dict[str, str], Texts()] = field(factory=dict)
    """Labels that Azure never lets one remove."""

    flavors: Annotated[dict[str, Any], Wrapped("data")] | None = field()
    """What MLflow says it can be loaded as."""

    stage: str | None = field()
    """Free text such as `Production`."""

    default_deployment_template: DeploymentTemplateReference | None = field(convert=_template)
    """How it is deployed when nothing else is said."""

    allowed_deployment_templates: list[DeploymentTemplateReference] | None = field(convert=_templates)
    """The ways in which it may be deployed."""

    job_name: str | None = field(file=False)
    """The job that trained it."""

    utc_time_created: str | None = field(wire=None, file=False, eq=False, show=False)
    """When it was made, as Azure's class has it; `system_data` is what the service says."""

    def check(self) -> Iterator[Problem]:
        """A model is its files."""
        yield from Artifact.check(self)
        if self.path is None:
            yield Problem("path", f"Model {self.name or '(anonymous)'!r} has no path: name its file or folder.")


@attrs.define(kw_only=True)
class BuildContext(Entity):
    """A folder with a Dockerfile, from which an image is built."""

    dockerfile_path: str | None = field(service="Dockerfile")
    """Path of the Dockerfile in the folder."""

    path: Path | None = field(wire="contextUri", required=True, convert=path_text)
    """The folder."""


@attrs.define(kw_only=True)
class Environment(Artifact):
    """What a scoring script runs in: an image, an image with a conda file on top, or a build context."""

    place = "environments/{name}/versions/{version}"

    image: str | None = field()
    """Name of a container image."""

    build: BuildContext | None = field()
    """Instead of an image: how to build one."""

    conda_file: Annotated[str | dict[str, Any], CondaSpec()] | None = field(convert=path_text)
    """A conda file: its path, or its content."""

    tags: dict[str, Any] | None = field()
    """Labels."""

    properties: dict[str, Any] | None = field()
    """Labels that Azure never lets one remove."""

    inference_config: InferenceConfig | None = field(convert=_inference)
    """Ports and routes of a container that brings its own server."""

    os_type: Annotated[str, _SYSTEMS] | None = field(convert=_SYSTEMS.python)
    """`linux` or `windows`."""

    def check(self) -> Iterator[Problem]:
        """Azure's rule: an image or a build context, and not both."""
        yield from Artifact.check(self)
        if self.image and self.build:
            yield Problem("build", "Docker image or Dockerfile should be provided not both.")
        if not self.image and not self.build:
            yield Problem("image", "Docker image or Dockerfile is required for environments.")


@attrs.define(kw_only=True)
class Data(Artifact):
    """Files or a folder of data, by where they are."""

    place = "data/{name}/versions/{version}"

    type: str | None = field("uri_folder", wire="dataType", check=in_(["uri_file", "uri_folder", "mltable"]))
    """What is there: `uri_file`, `uri_folder` or `mltable`."""

    path: Path | None = field(wire="dataUri", convert=path_text)
    """Where it is."""

    tags: dict[str, Any] = field(factory=dict)
    """Labels."""

    properties: dict[str, Any] = field(factory=dict)
    """Labels that Azure never lets one remove."""


@attrs.define(kw_only=True)
class Code(Artifact):
    """A folder with scoring scripts."""

    place = "codes/{name}/versions/{version}"

    path: Path | None = field(wire="codeUri", convert=path_text)
    """A local folder, or where it was uploaded to."""

    properties: dict[str, Any] | None = field()
    """`hash_sha256` and `hash_version` of its content."""

    is_archived: bool | None = field(file=False, show=False)
    """Whether lists leave it out. Azure's SDK does not say it of code."""
