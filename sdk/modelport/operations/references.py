"""
What a deployment refers to, made into ids: the last step before it is sent.

Assets that stand inline are registered first. Files are sent once: an asset that was
given no name gets the hash of its content as its name, and is looked up before.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from modelport.arm import ids
from modelport.entities import (
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
from modelport.errors import ResourceNotFoundError, ValidationException
from modelport.operations.base import Service
from modelport.schema import files
from modelport.schema.fields import is_uri
from modelport.transports import uploads

_E = TypeVar("_E", bound=Entity)
_A = TypeVar("_A", Model, Environment)


def resolved(service: Service, deployment: OnlineDeployment) -> OnlineDeployment:
    """The deployment with ids in place of names, paths and inline assets, in the order in which Azure's SDK asks."""
    configuration = deployment.code_configuration
    return changed(
        deployment,
        code_configuration=_code(service, configuration) if configuration else None,
        environment=_id(service, Environment, deployment.environment),
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
        errors.ValidationException: It has no path, or the path does not exist.
        errors.ResourceExistsError: The version exists with other files.
    """
    model.validate()
    assert model.path
    if is_uri(model.path):
        said = model if model.name else changed(model, name=_digest(model.path), version="1", is_anonymous=True)
        return service.put(changed(_versioned(service, said), path=_full(service, model.path)))
    path = _existing(Path(model.path), "model")
    mark = uploads.content_hash(path) + f"-{path.name}"
    if model.name is None:
        # Equal files under another name are another model: the name is a part of the path that scripts open.
        name = _digest(f"{mark}-{model.type}")
        there = _there(service, Model, f"models/{name}/versions/1")
        if there:
            return there
        model = changed(model, name=name, version="1", is_anonymous=True)
    else:
        model, there = _with_mark(service, model, mark)
        if there:  # with the same files; what it is called and said to be may be new
            same = changed(model, version=there.version, path=there.path)
            return service.put(changed(same, properties={**model.properties, "hash_sha256": mark}))
    under = "" if path.is_file() else path.name
    uri = uploads.upload(service.transport, ids.place(model), path, under=under)
    return service.put(changed(model, path=uri, properties={**model.properties, "hash_sha256": mark}))


def registered_environment(service: Service, environment: Environment) -> Environment:
    """
    The environment as a version in the workspace; unchanged content keeps its version.

    Raises:
        errors.ValidationException: It is not valid, or its conda file cannot be read.
        errors.ResourceExistsError: The version exists with other content.
    """
    environment.validate()
    if isinstance(environment.conda_file, str):
        environment = changed(environment, conda_file=files.read_mapping(environment.conda_file))
    if environment.name is None:
        content = json.dumps(files.write(environment, None), sort_keys=True)
        version = _digest(content)
        there = _there(service, Environment, f"environments/{ANONYMOUS_ENVIRONMENT}/versions/{version}")
        anonymous = changed(environment, name=ANONYMOUS_ENVIRONMENT, version=version, is_anonymous=True)
        return there or service.put(anonymous)
    if environment.version is None:
        latest = _latest(service, Environment, f"environments/{environment.name}")
        if latest and all(
            getattr(latest, name) == getattr(environment, name)
            for name in ("image", "build", "conda_file", "inference_config", "os_type")
        ):
            environment = changed(environment, version=latest.version)
    return service.put(_versioned(service, environment))


def _code(service: Service, configuration: CodeConfiguration) -> CodeConfiguration:
    said = configuration.code
    if said is None:
        return configuration
    if is_uri(said):
        return changed(configuration, code=_looked_up(service, said, "codes"))
    folder = _existing(Path(said), "code folder")
    name = uploads.content_hash(folder)
    place = f"codes/{name}/versions/1"
    there = _there(service, Code, place)
    if there is None:
        uri = uploads.upload(service.transport, place, folder)
        marks = {"hash_sha256": name, "hash_version": "202208"}
        service.put(Code(name=name, version="1", path=uri, is_anonymous=True, properties=marks))
    return changed(configuration, code=f"{service.workspace}/{place}")


def _id(service: Service, kind: type[Model | Environment], said: Any) -> str | None:
    if isinstance(said, Model):
        said = registered_model(service, said)
        return f"{service.workspace}/{ids.place(said)}"
    if isinstance(said, Environment):
        said = registered_environment(service, said)
        return f"{service.workspace}/{ids.place(said)}"
    assert kind.place
    return None if said is None else _looked_up(service, said, kind.place.partition("/")[0])


def _looked_up(service: Service, said: str, kind: str) -> str:
    found = ids.reference(said, kind, service.workspace)
    if found is None:
        return said.removeprefix("azureml:") if said.startswith("azureml:/subscriptions/") else said
    version = found.version
    if found.label:
        classes: dict[str, type[Model | Environment]] = {"models": Model, "environments": Environment}
        newest = _latest(service, classes[kind], f"{kind}/{found.name}") if kind in classes else None
        if newest is None or found.label != "latest":
            message = f"Asset {found.name} with version label {found.label} does not exist in workspace."
            raise ResourceNotFoundError(message, target=kind)
        version = newest.version
    return f"{service.workspace}/{kind}/{found.name}/versions/{version}"


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
    path = data.path or f"azureml://datastores/workspaceblobstore/paths/{where}"
    asset = Data(name=name, version=data.version or "1", path=path)
    service.put(asset)
    return f"{service.workspace}/{ids.place(asset)}"


def _with_mark(service: Service, model: Model, mark: str) -> tuple[Model, Model | None]:
    """The model with its version, and the same model when the workspace has it with the same files."""
    if model.version is None:
        newest = _latest(service, Model, f"models/{model.name}")
        if newest and newest.properties.get("hash_sha256") == mark and newest.type == model.type:
            return model, newest
        model = _versioned(service, model)
    there = _there(service, Model, ids.place(model))
    if there and there.properties.get("hash_sha256") != mark:
        raise ValidationException(
            f"Model '{model.name}' has a version '{model.version}' with other files, and versions never change. "
            "Choose another version, or leave it out to get the next one.",
            target="version",
        )
    return model, there


def _versioned(service: Service, asset: _A) -> _A:
    """The asset with the version that comes next, when it was given none."""
    if asset.version is not None:
        return asset
    collection = ids.place(changed(asset, version="1")).partition("/")[0]
    answer = service.reply("GET", f"{collection}/{asset.name}")
    version = str(answer.body["properties"]["nextVersion"]) if answer.status < 400 else "1"
    return changed(asset, version=version)


def _latest(service: Service, kind: type[_E], container: str) -> _E | None:
    query = {"$orderBy": "createdtime desc", "$top": "1"}
    return next(service.list(kind, f"{container}/versions", query), None)


def _there(service: Service, kind: type[_E], place: str) -> _E | None:
    try:
        return service.get(kind, place)
    except ResourceNotFoundError:
        return None


def _existing(path: Path, what: str) -> Path:
    if not path.exists():
        raise ValidationException(f"The {what} '{path}' does not exist (looked in '{Path.cwd()}').", target="path")
    return path.resolve()


def _full(service: Service, uri: str) -> str:
    """A short datastore URI in its long form, as Azure's SDK sends it."""
    short = "azureml://datastores/"
    return service.workspace.datastore_uri(uri.removeprefix(short)) if uri.startswith(short) else uri


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
