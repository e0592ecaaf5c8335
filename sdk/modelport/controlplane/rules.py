"""
What the service accepts: Azure's rules that need to know what else there is.

Each kind of resource has one function here, called inside the transaction that
stores the resource, with what is wanted and what is there. It returns what will be
stored, or raises.
"""

from __future__ import annotations

from typing import Any, TypeVar

from modelport.arm import ids
from modelport.backends import refusals
from modelport.builds.base import Builder
from modelport.controlplane import plan
from modelport.controlplane.blobs import Blobs
from modelport.controlplane.plan import Parts
from modelport.controlplane.store import Resource, Transaction
from modelport.entities import (
    Code,
    Data,
    Entity,
    Environment,
    KubernetesOnlineDeployment,
    Model,
    OnlineDeployment,
    OnlineEndpoint,
)
from modelport.entities.base import changed, filled
from modelport.errors import (
    ResourceExistsError,
    ResourceNotFoundError,
    ValidationException,
)
from modelport.schema import faces
from modelport.schema.faces import Face

_E = TypeVar("_E", bound=Entity)


_FIXED: dict[type[Entity], tuple[str, ...]] = {
    Model: ("path", "type"),
    Environment: ("image", "build", "conda_file", "inference_config"),
    Code: ("path",),
    Data: ("path", "type"),
}
"""What a version of an asset is; the rest of it says something about it, and may change."""


class Rules:
    """The rules of one workspace."""

    def __init__(self, workspace: ids.WorkspaceId, blobs: Blobs, builder: Builder, backend: str) -> None:
        """`backend` is the kind that runs the workspace's replicas."""
        self.workspace, self.blobs, self.builder, self.backend = workspace, blobs, builder, backend

    def accepted(self, transaction: Transaction, want: Entity, have: Resource | None) -> Entity:
        """
        What will be stored for `want`.

        Raises:
            errors.ModelportError: It breaks a rule; nothing was changed.
        """
        if isinstance(want, OnlineEndpoint):
            return self._endpoint(transaction, want, have)
        if isinstance(want, OnlineDeployment):
            return self._deployment(transaction, want)
        want.validate()
        return self._asset(want, have)

    def _endpoint(self, transaction: Transaction, want: OnlineEndpoint, have: Resource | None) -> OnlineEndpoint:
        refusal = refusals.of_endpoint(want)
        if refusal:
            raise refusal
        there = loaded(OnlineEndpoint, have) if have else None
        if there:
            keeps = {
                name: getattr(there, name) for name in ("traffic", "mirror_traffic") if getattr(want, name) is None
            }
            want = changed(want, **keeps)
        want = filled(want)
        want.validate()
        known = {_name(each) for each in transaction.resources(f"{ids.place(want)}/deployments") if not each.leaving}
        for rules in ("traffic", "mirror_traffic"):
            unknown = [name for name, share in (getattr(want, rules) or {}).items() if share and name not in known]
            if unknown:
                has = f"It has {', '.join(sorted(known))}." if known else "It has none: create the deployment first."
                raise ValidationException(
                    f"{rules} names '{unknown[0]}', which is not a deployment of endpoint '{want.name}'. {has}",
                    target=rules,
                )
        return want

    def _deployment(self, transaction: Transaction, want: OnlineDeployment) -> OnlineDeployment:
        if isinstance(
            want, KubernetesOnlineDeployment
        ):  # before its other parts are looked at: they may be a cluster's
            self._refuse(want, None)
        want = filled(want)
        want.validate()
        endpoint = transaction.get(f"onlineEndpoints/{want.endpoint_name}")
        if endpoint is None:
            raise ResourceNotFoundError(
                f"Deployment '{want.name}' names endpoint '{want.endpoint_name}', which does not exist. "
                "Create the endpoint first."
            )
        if endpoint.leaving:
            raise ResourceExistsError(f"Endpoint '{want.endpoint_name}' is being deleted.")
        self.builder.check(plan.wanted(want, self.parts(transaction, want)))
        return want

    def parts(self, transaction: Transaction, deployment: OnlineDeployment) -> Parts:
        """
        The files and the environment that a deployment refers to.

        Raises:
            errors.ResourceNotFoundError: An asset, or its files, does not exist.
            errors.ValidationException: The scoring script is not in the code folder.
            errors.UnsupportedByBackend: Only a container can give it.
        """
        environment = self._asset_of(transaction, Environment, deployment.environment, deployment)
        self._refuse(deployment, environment)
        context = environment.build.path if environment and environment.build else None
        model = self._asset_of(transaction, Model, deployment.model, deployment)
        return Parts(
            environment=environment,
            context=self.blobs.find(context) if context else None,
            app_root=self._code(transaction, deployment) if deployment.code_configuration else "",
            model_dir=str(self.blobs.alone(self.blobs.find(model.path))) if model and model.path else None,
            model=f"{model.name}/{model.version}" if model and model.path else "",
        )

    def _code(self, transaction: Transaction, deployment: OnlineDeployment) -> str:
        """The folder that has the deployment's scoring script."""
        configuration = deployment.code_configuration
        assert configuration
        code = self._asset_of(transaction, Code, configuration.code, deployment)
        if code is None or not code.path:
            raise ValidationException(
                f"Deployment '{deployment.name}' has no code: name its folder in code_configuration.code.",
                target="code_configuration.code",
            )
        app_root = self.blobs.find(code.path)
        script = app_root / (configuration.scoring_script or "")
        if not script.is_file():
            there = ", ".join(sorted(each.name for each in app_root.iterdir())) or "nothing"
            raise ValidationException(
                f"Deployment '{deployment.name}': the scoring script '{configuration.scoring_script}' is not in the "
                f"code folder, which has {there}.",
                target="code_configuration.scoring_script",
            )
        return str(app_root)

    def _refuse(self, deployment: OnlineDeployment, environment: Environment | None) -> None:
        refusal = refusals.of_deployment(deployment, environment, self.backend)
        if refusal:
            raise refusal

    def _asset_of(self, transaction: Transaction, kind: type[_E], said: Any, deployment: OnlineDeployment) -> _E | None:
        if said is None:
            return None
        assert kind.place
        collection = kind.place.partition("/")[0]
        found = ids.reference(said, collection, self.workspace) if isinstance(said, str) else None
        there = transaction.get(f"{found.kind}/{found.name}/versions/{found.version}") if found else None
        if there is None:
            raise ResourceNotFoundError(
                f"Deployment '{deployment.name}' of '{deployment.endpoint_name}' names {collection[:-1]} '{said}', "
                "which is not in this workspace. Create it here first, or give its local files.",
                target=collection[:-1],
            )
        return loaded(kind, there)

    def _asset(self, want: Entity, have: Resource | None) -> Entity:
        """Versions never change: the same content is fine, other content is refused; labels may change."""
        if isinstance(want, (Model, Code, Data)) and want.path:
            want = changed(want, path=self.blobs.lasting(want.path, self.workspace))
        if isinstance(want, Environment) and want.build and want.build.path:
            context = self.blobs.lasting(want.build.path, self.workspace)
            want = changed(want, build=changed(want.build, path=context))
        if have is None:
            return want
        there = loaded(type(want), have)
        if isinstance(want, (Model, Code)) and isinstance(there, (Model, Code)) and _same(want, there):
            want = changed(want, path=there.path)  # two clients sent the same files at once: the first one's stay
        for name in _FIXED[type(want)]:
            if getattr(want, name) != getattr(there, name):
                called = f"{type(want).__name__} '{have.place.split('/')[1]}'"
                raise ResourceExistsError(
                    f"{called} has a version '{_name(have)}' with another {name}, and versions never "
                    "change. Choose another version, or leave it out to get the next one.",
                    target="version",
                )
        return want


def loaded(kind: type[_E], resource: Resource) -> _E:
    """A stored resource as its entity."""
    return faces.load(kind, resource.body, Face.RECORD)


def _same(want: Model | Code, there: Model | Code) -> bool:
    """Whether two versions have the same files, wherever they were sent to."""
    equal = (want.path or "").rstrip("/") == (there.path or "").rstrip("/")
    return equal or _mark(want) == _mark(there) != ""


def _mark(asset: Model | Code) -> str:
    """The hash of an asset's files, as the client said it."""
    return str((asset.properties or {}).get("hash_sha256") or "")


def _name(resource: Resource) -> str:
    return resource.place.rpartition("/")[2]
