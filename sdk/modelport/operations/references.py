"""
What a deployment refers to, made into ids: the last step before it is sent.

Assets that stand inline are registered first, in the order and by the requests of
Azure's SDK. Files are sent once: where they are put is named by their content.
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from modelport.arm import faults, ids, versions
from modelport.arm.messages import Request
from modelport.entities import (
    BuildContext,
    Code,
    CodeConfiguration,
    Data,
    DataAsset,
    DataCollector,
    Environment,
    Model,
    OnlineDeployment,
    OnlineEndpoint,
)
from modelport.entities.assets import ANONYMOUS_ENVIRONMENT
from modelport.entities.base import Entity, changed
from modelport.errors import (
    HttpResponseError,
    ModelportError,
    ResourceExistsError,
    ResourceNotFoundError,
    ValidationException,
)
from modelport.operations.base import Service
from modelport.schema import faces, files
from modelport.schema.faces import Face
from modelport.schema.fields import is_uri
from modelport.transports import storage, uploads
from modelport.transports.sources import LEFT_OUT_OF_CODE, Source, source

logger = logging.getLogger(__name__)

_E = TypeVar("_E", bound=Entity)
_A = TypeVar("_A", Model, Environment, Data)

DATASTORE = "workspaceblobstore"
"""Where files are put when no other datastore is named."""

_CODES = uuid.UUID("6d6f6465-6c70-5f72-8074-636f64650000")
_HASH_VERSION = 202208
_TRIES = 5
_IN_REGISTRY = re.compile(
    r"azureml://registries/(?P<registry>[^/]+)/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE
)
STORED = re.compile(r"azureml://(?:.+/)?datastores/(?P<store>[^/]+)/paths/(?P<path>.+)", re.IGNORECASE)
"""The URI of files in a datastore."""


def resolved(service: Service, deployment: OnlineDeployment) -> OnlineDeployment:
    """The deployment with ids in place of names, paths and inline assets, in the order in which Azure's SDK asks."""
    configuration = deployment.code_configuration
    code = registered_code(service, configuration) if configuration else None
    environment = _id(service, Environment, deployment.environment)
    _tell_of_template(service, deployment.model)
    return changed(
        deployment,
        code_configuration=code,
        environment=environment,
        model=_id(service, Model, deployment.model),
        data_collector=_collector(service, deployment),
        location=service.location,
    )


def resolved_endpoint(service: Service, endpoint: OnlineEndpoint) -> OnlineEndpoint:
    """The endpoint with the workspace's location, and ids in place of names."""
    values: dict[str, Any] = {"location": service.location}
    compute = getattr(endpoint, "compute", None)
    found = ids.reference(compute, "computes", service.workspace) if compute else None
    if found:
        values["compute"] = f"{service.workspace}/computes/{found.name}"
    return changed(endpoint, **values)


def registered_model(service: Service, model: Model) -> Model:
    """
    The model as a version in the workspace; its files are sent when they are not there yet.

    Raises:
        errors.ValidationException: It has no path, the path has no files, or the version exists with other files.
    """
    model.validate()
    assert model.path
    local = None if is_uri(model.path) else source(existing(model.path, "model"))
    digest = local.object_hash() if local else ""
    where = f"{uploads.PLACE}/{digest}/{local.name}" if local else ""
    anonymous = model.name is None
    name = model.name or digest_of(digest or model.path)
    newest = latest(service, Model, f"models/{name}")
    if anonymous:
        if newest and (_is_elsewhere(newest, where) or newest.type not in (None, model.type)):
            # Azure's name for it says nothing of the folder's name, which is a part of the path that scripts open.
            name = digest_of(f"{digest}-{where.rpartition('/')[2]}-{model.type}")
        model = changed(model, name=name, version="1", is_anonymous=True)
    elif newest and model.version == newest.version and _is_elsewhere(newest, where):
        raise _other_files(model)

    def put(model: Model) -> Model:
        path = _sent(service, local, digest, model) if local else str(model.path)
        try:
            return service.put(changed(model, path=_long(service, path)))
        except HttpResponseError as error:
            # What Azure says of a version that exists with other files is a plain 400.
            if "paths cannot be updated" in error.message:
                raise ResourceExistsError(error.message, target="version") from error
            raise

    try:
        return _numbered(service, model, "models", put)
    except ResourceExistsError as error:
        if model.version is None:
            raise
        raise _other_files(model) from error


def registered_data(service: Service, data: Data) -> Data:
    """
    The data asset as a version in the workspace; local files are sent when they are not there yet.

    Raises:
        errors.ValidationException: It has no path, or one that is not what its type says.
    """
    data.validate()
    if data.path is None:
        raise ValidationException(f"Data {data.name or '(anonymous)'!r} has no path: name its file or folder.")
    path = str(data.path)
    local = None if is_uri(path) else source(existing(path, "data"))
    if local and local.is_file != (data.type == "uri_file"):
        what = "file" if local.is_file else "folder"
        raise ValidationException(
            f"Data {data.name or '(anonymous)'!r} is of type {data.type}, and '{path}' is a {what}. Give it the type "
            f"{'uri_file' if local.is_file else 'uri_folder'}, or another path.",
            target="path",
        )
    digest = local.object_hash() if local else ""
    if data.name is None:
        data = changed(data, name=digest_of(digest or path), version="1", is_anonymous=True)
    if local:
        path = _sent(service, local, digest, data)
    return _numbered(service, changed(data, path=path), "data", service.put)


def registered_environment(service: Service, environment: Environment) -> Environment:
    """
    The environment as a version in the workspace; unchanged content keeps its version.

    Raises:
        errors.ValidationException: It is not valid, or a file of it cannot be read.
        errors.ResourceExistsError: The version exists with other content.
    """
    environment.validate()
    if isinstance(environment.conda_file, str):
        environment = changed(environment, conda_file=files.read_mapping(environment.conda_file))
    build = environment.build
    said = build.path if build and build.path and not is_uri(build.path) else None
    local = source(existing(said, "build context")) if said else None
    digest = local.object_hash() if local else ""

    def put(environment: Environment) -> Environment:
        if local and environment.build:
            path = _sent(service, local, digest, environment, uri=True)
            environment = changed(environment, build=changed(environment.build, path=f"{path}/"))
        return service.put(environment)

    if environment.name is None:
        version = anonymous_version(environment, digest)
        return put(changed(environment, name=ANONYMOUS_ENVIRONMENT, version=version, is_anonymous=True))

    def unchanged(newest: Environment) -> bool:
        where = f"/{uploads.PLACE}/{digest}/{local.name}/" if local else None
        return _content(newest) == _content(environment) and _same_context(newest.build, build, where)

    return _numbered(service, environment, "environments", put, unchanged)


def registered_code(service: Service, configuration: CodeConfiguration) -> CodeConfiguration:
    """
    The configuration with the id of its code, which is sent when the workspace does not have it.

    Azure's SDK gives code a new name each time, and so sends it each time. Here the hash makes the name.
    """
    said = configuration.code
    if said is None:
        return configuration
    if is_uri(said):
        return changed(configuration, code=_looked_up(service, said, "codes"))
    folder = source(existing(said, "code folder"), leave_out=LEFT_OUT_OF_CODE)
    digest = folder.content_hash()
    name = str(uuid.uuid5(_CODES, digest))
    query = {"hash": digest, "hashVersion": str(_HASH_VERSION)}
    there = service.ask("GET", f"codes/{name}/versions", query=query).body.get("value")
    if there:
        return changed(configuration, code=str(there[0]["id"]))
    place = f"codes/{name}/versions/1"
    container, uri = storage.of_pending_upload(service.transport, place)
    where = uploads.upload(container, folder, asset=name, version="1", show_progress=service.show_progress)
    marks = {"hash_sha256": digest, "hash_version": _HASH_VERSION}
    path = uri if folder.is_file else f"{uri}/{where}"
    service.put(Code(name=name, version="1", path=path, is_anonymous=True, properties=marks))
    return changed(configuration, code=f"{service.workspace}/{place}")


def environment_id(service: Service, said: str | Environment) -> str:
    """The ARM id of an environment that is named, or that is registered now."""
    found = _id(service, Environment, said)
    assert found
    return found


def latest(service: Service, kind: type[_E], container: str) -> _E | None:
    """The version that was made last; None when there is none."""
    query = {"$orderBy": "createdtime desc", "$top": "1"}
    return next(service.list(kind, f"{container}/versions", query), None)


def _id(service: Service, kind: type[Model | Environment], said: Any) -> str | None:
    if isinstance(said, Model):
        said = said.id or f"{service.workspace}/{ids.place(registered_model(service, said))}"
    if isinstance(said, Environment):
        said = said.id or f"{service.workspace}/{ids.place(registered_environment(service, said))}"
    assert kind.place
    return None if said is None else _looked_up(service, said, kind.place.partition("/")[0])


def _tell_of_template(service: Service, model: Any) -> None:
    """Tell whom a registry's model brings a template that overrides what the deployment says. It is but a hint."""
    found = _IN_REGISTRY.match(model) if isinstance(model, str) else None
    if found is None:
        return
    try:
        registry = service.transport.registry(found["registry"])
        place = ids.checked(f"models/{found['name']}/versions/{found['version']}")
        answer = registry.send(Request("GET", f"{registry.workspace}/{place}", api_version=versions.REGISTRY))
        template = faces.load(Model, faults.raise_for(answer, place).body, Face.RECORD).default_deployment_template
    except ModelportError as error:
        logger.debug("%s: %s", model, error.message)
        return
    if template:
        said = "%s has the default deployment template %s, whose settings hold where the deployment says other ones."
        logger.info(said, model, template.asset_id)


def _looked_up(service: Service, said: str, kind: str) -> str:
    found = ids.reference(said, kind, service.workspace)
    if found is None and said.startswith(ids.CURATED):
        return f"azureml:{said}"
    if found is None:
        return said.removeprefix("azureml:") if said.startswith("azureml:/subscriptions/") else said
    version = found.version
    if found.label:
        classes: dict[str, type[Model | Environment]] = {"models": Model, "environments": Environment}
        newest = latest(service, classes[kind], f"{kind}/{found.name}") if kind in classes else None
        if newest is None or found.label != "latest":
            raise no_label(service, found.name, found.label)
        version = newest.version
    return f"{service.workspace}/{kind}/{found.name}/versions/{version}"


def no_label(service: Service, name: str, label: str) -> ValidationException:
    """What is raised for a label that names no version, in Azure's words."""
    if label == "latest":
        what = "registry" if isinstance(service.workspace, ids.RegistryId) else "workspace"
        said = f"Asset {name} does not exist in {what} {service.workspace.name}."
    else:
        said = f"Asset {name} with version label {label} does not exist in workspace."
    return ValidationException(said, target="label")


def _collector(service: Service, deployment: OnlineDeployment) -> DataCollector | None:
    """The collector with a data asset for each collection, registered as Azure's SDK does."""
    collector = deployment.data_collector
    if collector is None:
        return None
    collections = {}
    for name, collection in collector.collections.items():
        data = collection.data
        if isinstance(data, str) or (data and data.data_id):
            identifier = data if isinstance(data, str) else data.data_id
        else:
            identifier = _data_asset(service, data or DataAsset(), deployment, name)
        rate = collector.sampling_rate if collector.sampling_rate is not None else collection.sampling_rate
        collections[name] = changed(collection, data=identifier, sampling_rate=rate)
    return changed(collector, collections=collections)


def _data_asset(service: Service, data: DataAsset, deployment: OnlineDeployment, collection: str) -> str:
    where = f"modelDataCollector/{deployment.endpoint_name}/{deployment.name}/{collection}"
    name = data.name or f"{deployment.endpoint_name}-{deployment.name}-{collection}"
    path = data.path or f"azureml://datastores/{DATASTORE}/paths/{where}"
    asset = Data(name=name, version=data.version or "1", path=path)
    service.put(asset)
    return f"{service.workspace}/{ids.place(asset)}"


def _sent(service: Service, local: Source, digest: str, asset: _A, *, uri: bool = False) -> str:
    """Send files to the asset's datastore; returns their path there, as a URI of the datastore or of the storage."""
    store = (asset.datastore or DATASTORE).removeprefix("azureml:").rpartition("/")[2]
    container = storage.of_datastore(service.transport, store)
    where = uploads.upload(
        container,
        local,
        f"{uploads.PLACE}/{digest}",
        asset=str(asset.name),
        version=str(asset.version),
        show_progress=service.show_progress,
    )
    return f"{container.url}/{where}" if uri else f"azureml://datastores/{store}/paths/{where}"


def _numbered(
    service: Service,
    asset: _A,
    collection: str,
    put: Callable[[_A], _A],
    unchanged: Callable[[_A], bool] | None = None,
) -> _A:
    """
    Put the asset in the version that it was given, or else in the next one.

    Args:
        service: Where to.
        asset: With a name.
        collection: What it is one of, such as `models`.
        put: Puts it, once it has a version.
        unchanged: Whether the newest version has the same content, and is to be kept.
    """
    if asset.version is not None:
        return put(asset)
    refused = ""
    for _ in range(_TRIES):
        place = f"{collection}/{asset.name}"
        answer = service.reply("GET", place)
        known = answer.status != ResourceNotFoundError.status
        said = faults.raise_for(answer, f"GET {place}").body["properties"] if known else {}
        newest, version = said.get("latestVersion"), str(said.get("nextVersion") or "1")
        if unchanged and newest and unchanged(service.get(type(asset), f"{place}/versions/{newest}")):
            version = str(newest)
        try:
            return put(changed(asset, version=version))
        except ResourceExistsError:  # somebody else took it since
            refused = version
    raise ResourceExistsError(
        f"{type(asset).__name__} '{asset.name}': others took the next version {_TRIES} times, last '{refused}'. "
        "Choose a version."
    )


def _content(environment: Environment) -> tuple[Any, ...]:
    return environment.image, environment.conda_file, environment.inference_config, environment.os_type or "linux"


def _same_context(newest: BuildContext | None, build: BuildContext | None, where: str | None) -> bool:
    """Whether two build contexts have the same files; `where` is the path of local ones in a storage."""
    if newest is None or build is None:
        return newest is build
    if (newest.dockerfile_path or "Dockerfile") != (build.dockerfile_path or "Dockerfile"):
        return False
    return str(newest.path).endswith(where) if where else newest.path == build.path


def _is_elsewhere(there: Model, where: str) -> bool:
    """Whether a model has other files than those at `where`; empty is nowhere, and says nothing."""
    found = STORED.fullmatch(there.path or "")
    return bool(where and found and found["path"] not in (where, where.replace(uploads.PLACE, uploads.OLD_PLACE)))


def anonymous_version(environment: Environment, digest: str) -> str:
    """
    The version of an environment without a name, from what it is.

    Source: azure-ai-ml 1.35.2: SHA-256 of hex digits woven into each other: each part's digits stand between those of
    the next part. A recording pins it. There a build context alone counts: another port for the same server would be
    another version of the same name.
    """
    if environment.build:
        parts = [digest, *([environment.build.dockerfile_path] if environment.build.dockerfile_path else [])]
    else:
        parts = [environment.image or ""]
    config = environment.inference_config
    parts += [_yaml(files.write(config, None))] if config else []
    parts += [_yaml(environment.conda_file)] if isinstance(environment.conda_file, dict) else []
    woven = ""
    for part in parts:
        woven = woven.join(digest_of(part))
    return digest_of(woven)


def _yaml(document: dict[str, Any]) -> str:
    """A document as text, as conda files are sent."""
    body: dict[str, Any] = faces.dump(Environment(conda_file=document), Face.REQUEST)
    return str(body["properties"]["condaFile"])


def existing(said: str, what: str) -> Path:
    """
    A path of files that are there.

    Raises:
        errors.ValidationException: There are none.
    """
    path = Path(said)
    if not path.exists():
        raise ValidationException(f"The {what} '{path}' does not exist (looked in '{Path.cwd()}').", target="path")
    return path


def _long(service: Service, uri: str) -> str:
    """A short datastore URI in its long form, as Azure's SDK sends it."""
    short = "azureml://datastores/"
    return service.workspace.datastore_uri(uri.removeprefix(short)) if uri.startswith(short) else uri


def _other_files(model: Model) -> ValidationException:
    return ValidationException(
        f"Model '{model.name}' has a version '{model.version}' with other files, and versions never change. "
        "Choose another version, or leave it out to get the next one.",
        target="version",
    )


def digest_of(text: str) -> str:
    """What anonymous assets are named by: SHA-256, in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()
