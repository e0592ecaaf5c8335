"""
`ml_client.apply`: files with several documents, brought about in the order that they need.

Everything is read and checked before anything is sent: each document by itself, the
documents against each other, and against what the workspace has. Then assets,
endpoints without traffic for what is not there yet, deployments, and traffic last.
What is as it should be is left alone, so that a run that failed half way goes on
when it is repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import attrs

from modelport.arm import ids
from modelport.entities import Data, Entity, Environment, Model, OnlineDeployment, OnlineEndpoint
from modelport.entities.base import changed
from modelport.errors import ModelportError, OperationInProgress, ResourceNotFoundError, ValidationException
from modelport.operations import preflight
from modelport.operations.base import Service
from modelport.operations.plan import Change, Plan, plan
from modelport.operations.poller import LROPoller
from modelport.operations.references import STORED, latest
from modelport.schema import documents, files, kinds
from modelport.schema.fields import is_uri
from modelport.transports import uploads
from modelport.transports.sources import source

Outcome = Literal["created", "changed", "unchanged"]
Sources = files.Source | Sequence[str | os.PathLike[str]]
_Asset = Model | Environment | Data
_A = TypeVar("_A", bound=Model | Environment | Data)


@attrs.frozen
class Step:
    """What became of one document."""

    outcome: Outcome
    title: str
    """Such as `Deployment 'blue' of 'tides'`."""

    entity: Entity
    """As the service has it now; of a rehearsal: as it would be sent."""

    plan: Plan | None = None
    """Of a rehearsal: what would change."""

    def __str__(self) -> str:
        return str(self.plan) if self.plan else f"{self.outcome:9}  {self.title}"


class Applied(list[Entity]):
    """The entities of a file, in its order, as the service has them now; `steps` says what became of each."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__(step.entity for step in steps)
        self.steps = tuple(steps)

    @property
    def is_changed(self) -> bool:
        """Whether anything was created or changed."""
        return any(step.outcome != "unchanged" for step in self.steps)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.steps)) if self.is_changed else "Nothing to do: all of it is as it should be."

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """What notebooks show: they would show a list otherwise."""
        printer.text(repr(self))


@attrs.define
class _Said:
    """One document: where it stands, and what it describes."""

    entity: Entity
    name: str | None
    document: documents.Document

    @property
    def title(self) -> str:
        return _title(self.entity)

    def problem(self, place: str, message: str) -> str:
        return f"{self.name or 'The YAML'}: line {self.document.where(place).line}: {place}: {message}"


def read(sources: Sources) -> tuple[list[_Said], list[ValidationException]]:
    """
    What files say, each document by itself, and what is wrong with those that cannot be read.

    One that is wrong does not hide what is wrong with the others.
    """
    several = isinstance(sources, Sequence) and not isinstance(sources, str)
    listed = cast("Sequence[files.Source]", sources) if several else [cast("files.Source", sources)]
    said: list[_Said] = []
    wrong: list[ValidationException] = []
    found: list[tuple[str | None, documents.Document]] = []
    for one in listed:
        try:
            found += files.read_all(one)
        except ValidationException as error:  # noqa: PERF203 (all of them are told)
            wrong.append(error)
    for name, document in found:
        try:
            said.append(_Said(files.entity(_kind(name, document), document, name), name, document))
        except ValidationException as error:  # noqa: PERF203 (as above)
            wrong.append(error)
    return said, wrong


def _kind(name: str | None, document: documents.Document) -> type[Entity]:
    try:
        return kinds.told(_mapping(document.root.plain())).entity
    except ValidationException as error:
        line = document.root.line
        detail = {"code": error.code, "target": error.target, "message": error.message, "line": line}
        message = f"{name or 'The YAML'}: line {line}: {error.message}"
        raise ValidationException(message, target=error.target, details=[detail]) from error


def _mapping(root: Any) -> dict[str, Any]:
    if not isinstance(root, dict):
        raise ValidationException(f"A document is a mapping of fields, and this one is {root!r:.80}.")
    return root


class Application:
    """One run of `apply`."""

    def __init__(self, client: Any, service: Service) -> None:
        """
        Prepare a run.

        Args:
            client: The client whose operations send what is sent.
            service: The same workspace.
        """
        self._client, self._service = client, service
        self._endpoints: dict[str, OnlineEndpoint | None] = {}
        self._deployments: dict[tuple[str, str], OnlineDeployment] = {}
        self._steps: dict[int, Step] = {}

    def run(self, sources: Sources) -> Applied:
        """
        Bring about what files say.

        Args:
            sources: A file, a folder, several of them, or an open file.

        Raises:
            errors.ValidationException: Everything that is wrong with them; nothing was sent.
            errors.ModelportError: What failed; the message also says what was done and what was not.
        """
        said = self._checked(sources)
        try:
            for each in said:
                if isinstance(each.entity, (Model, Environment, Data)):
                    self._steps[id(each)] = self._asset(each.entity)
            for each in said:
                if isinstance(each.entity, OnlineEndpoint):
                    self._steps[id(each)] = self._endpoint(each.entity)
            self._deploy([each for each in said if isinstance(each.entity, OnlineDeployment)])
            for each in said:
                if isinstance(each.entity, OnlineEndpoint):
                    self._steps[id(each)] = self._traffic(each.entity, self._steps[id(each)])
        except ModelportError as error:
            self._tell(error, said)
            raise
        return Applied([self._steps[id(each)] for each in said])

    def rehearse(self, sources: Sources) -> Applied:
        """
        What `run` would do; nothing is sent but questions.

        Raises:
            errors.ValidationException: Everything that is wrong with the files.
        """
        return Applied([self._rehearsed(each.entity) for each in self._checked(sources)])

    def _rehearsed(self, entity: Entity) -> Step:
        if isinstance(entity, OnlineDeployment) and not self._have(entity):
            expected = Plan(_title(entity), exists=False, changes=(Change("name", None, entity.name, "create"),))
        elif isinstance(entity, OnlineEndpoint):
            expected = self._expected(_quiet(entity))
            now = self._endpoints[entity.name]
            traffic = [
                Change(rules, getattr(now, rules, None), getattr(entity, rules), "in place")
                for rules in ("traffic", "mirror_traffic")
                if not _shares(getattr(entity, rules), getattr(now, rules, None))
            ]
            expected = attrs.evolve(expected, changes=(*expected.changes, *traffic))
        else:
            expected = self._expected(entity)
        outcome: Outcome = "created" if not expected.exists else "changed" if expected else "unchanged"
        return Step(outcome, _title(entity), entity, expected)

    def _expected(self, entity: Entity) -> Plan:
        """What sending `entity` would change. What it refers to may be made by this very run, and not be there yet."""
        try:
            if isinstance(entity, OnlineDeployment):
                entity = self._settled(entity)
            if isinstance(entity, (Model, Data)):
                entity = self._numbered(entity)
            if isinstance(entity, Data):
                return self._expected_data(entity)
            return plan(self._service, entity)
        except (ResourceNotFoundError, ValidationException) as error:
            change = Change("references", None, error.message, "restart")
            return Plan(_title(entity), exists=True, changes=(change,))

    def _expected_data(self, data: Data) -> Plan:
        before = _found(lambda: self._client.data.get(data.name, data.version)) if data.version else None
        change = Change("version", None, data.version or "the next", "create")
        return Plan(_title(data), exists=before is not None, changes=() if before else (change,))

    def _checked(self, sources: Sources) -> list[_Said]:
        """What files say, when nothing is wrong with it."""
        said, faults = read(sources)
        if not faults:
            self._look(said)
        wrong = [*self._wrong(said, alone=bool(faults))]  # who knows what the faulty documents are
        if wrong or faults:
            details = [detail for each in faults for detail in each.details]
            details += [{"code": "InvalidField", "target": None, "message": each} for each in wrong]
            messages = [*(each.message for each in faults), *wrong]
            raise ValidationException("\n".join(messages), target=faults[0].target if faults else None, details=details)
        return said

    def _have(self, deployment: OnlineDeployment) -> OnlineDeployment | None:
        return self._deployments.get((str(deployment.endpoint_name), deployment.name))

    def _look(self, said: Sequence[_Said]) -> None:
        """Get to know what the workspace has of the endpoints that are named."""
        names = {each.entity.name for each in said if isinstance(each.entity, OnlineEndpoint)}
        names |= {str(each.entity.endpoint_name) for each in said if isinstance(each.entity, OnlineDeployment)}
        for name in sorted(names):
            self._endpoints[name] = _found(lambda name=name: self._client.online_endpoints.get(name))  # type: ignore[misc]
            if self._endpoints[name]:
                for each in self._client.online_deployments.list(name):
                    self._deployments[name, each.name] = each

    def _wrong(self, said: Sequence[_Said], *, alone: bool) -> Iterator[str]:
        """What is wrong with documents and with the files that they name; what they lack, unless they are alone."""
        seen: dict[str, _Said] = {}
        for each in said:
            if each.title in seen and getattr(each.entity, "name", None):
                first = seen[each.title]
                where = f"line {first.document.root.line} of {first.name or 'the YAML'}"
                yield each.problem("name", f"{each.title} stands in {where} too.")
            seen[each.title] = each
            if not alone:
                yield from self._lacking(each, [other.entity for other in said])
            yield from _refused(each, self._service.backend)

    def _lacking(self, each: _Said, every: Sequence[Entity]) -> Iterator[str]:
        """What a document names that is neither described in one nor in the workspace."""
        entity = each.entity
        if isinstance(entity, OnlineDeployment):
            name = str(entity.endpoint_name)
            if not self._endpoints[name] and name not in [o.name for o in every if isinstance(o, OnlineEndpoint)]:
                yield each.problem("endpoint_name", f"There is no endpoint '{name}', here or in the workspace.")
            for field, kind in (("model", Model), ("environment", Environment)):
                said = getattr(entity, field)
                if isinstance(said, str) and not self._has(kind, said, every):
                    yield each.problem(field, f"There is no '{said}', here or in the workspace.")
        if isinstance(entity, OnlineEndpoint):
            wanted = [(one.endpoint_name, one.name) for one in every if isinstance(one, OnlineDeployment)]
            known = {name for endpoint, name in (*wanted, *self._deployments) if endpoint == entity.name}
            yield from _strangers(each, entity, known)

    def _has(self, kind: type[Model | Environment], said: str, every: Sequence[Entity]) -> bool:
        """Whether a reference means an asset of the files or of the workspace; of elsewhere nothing is known."""
        collection = "models" if kind is Model else "environments"
        try:
            found = ids.reference(said, collection, self._service.workspace)
        except ValidationException:  # what preflight tells
            return True
        if found is None:
            return True
        mine = [each.version for each in every if isinstance(each, kind) and each.name == found.name]
        if None in mine or (mine and found.label) or found.version in mine:
            return True
        if found.label:
            return found.label == "latest" and latest(self._service, kind, f"{collection}/{found.name}") is not None
        place = f"{collection}/{found.name}/versions/{found.version}"
        return _found(lambda: self._service.get(kind, place)) is not None

    def _asset(self, asset: _Asset) -> Step:
        operations = self._client.models if isinstance(asset, Model) else self._client.environments
        if isinstance(asset, Data):
            operations = self._client.data
        asset = self._numbered(asset)
        before = _found(lambda: operations.get(asset.name, asset.version)) if asset.version else self._latest(asset)
        if before and not isinstance(asset, Data) and not plan(self._service, asset):
            return Step("unchanged", _title(before), before)
        after = operations.create_or_update(asset)
        outcome: Outcome = "created"
        if before is not None and before.version == after.version:
            outcome = "unchanged" if after == before else "changed"
        return Step(outcome, _title(after), after)

    def _latest(self, asset: _A) -> _A | None:
        assert asset.place
        return latest(self._service, type(asset), asset.place.partition("/versions/")[0].format(name=asset.name))

    def _numbered(self, asset: _A) -> _A:
        """The asset with the newest version, when that has the same files: what did not change gets no new one."""
        if asset.version or not asset.name or isinstance(asset, Environment) or not asset.path:
            return asset
        newest = self._latest(asset)
        same = newest and newest.type == asset.type and newest.path and _has_files(newest.path, asset.path)
        return changed(asset, version=newest.version) if newest and same else asset

    def _settled(self, deployment: OnlineDeployment) -> OnlineDeployment:
        """The deployment with the version of a model that stands in it."""
        model = deployment.model
        return changed(deployment, model=self._numbered(model)) if isinstance(model, Model) else deployment

    def _endpoint(self, endpoint: OnlineEndpoint) -> Step:
        """All of an endpoint but its traffic."""
        have = self._endpoints[endpoint.name]
        quiet = _quiet(endpoint)
        if have and not self._expected(quiet):
            return Step("unchanged", _title(endpoint), have)
        made = self._client.online_endpoints.begin_create_or_update(quiet).result()
        return Step("changed" if have else "created", _title(endpoint), made)

    def _deploy(self, said: Sequence[_Said]) -> None:
        """Deployments of an endpoint at once where the service queues them, else one after the other."""
        running: dict[int, tuple[_Said, Outcome, LROPoller[OnlineDeployment]]] = {}
        failed: ModelportError | None = None
        for each in said:
            deployment = cast("OnlineDeployment", each.entity)
            have = self._have(deployment)
            try:
                deployment = self._settled(deployment)
                if have and not plan(self._service, deployment):
                    self._steps[id(each)] = Step("unchanged", each.title, have)
                    continue
                poller = self._begin(deployment, [poller for _, _, poller in running.values()])
                running[id(each)] = (each, "changed" if have else "created", poller)
            except ModelportError as error:
                failed = error
                break
        for key, (each, outcome, poller) in running.items():
            try:
                self._steps[key] = Step(outcome, each.title, poller.result())
            except ModelportError as error:  # noqa: PERF203 (the others go on)
                failed = failed or error
        if failed:
            raise failed

    def _begin(
        self, deployment: OnlineDeployment, others: Sequence[LROPoller[OnlineDeployment]]
    ) -> LROPoller[OnlineDeployment]:
        begin: Callable[..., LROPoller[OnlineDeployment]] = self._client.online_deployments.begin_create_or_update
        try:
            return begin(deployment)
        except OperationInProgress:
            if not any(not each.done() for each in others):
                raise
            for each in others:
                each.wait()
            return begin(deployment)

    def _traffic(self, endpoint: OnlineEndpoint, step: Step) -> Step:
        now = cast("OnlineEndpoint", step.entity)
        if _shares(endpoint.traffic, now.traffic) and _shares(endpoint.mirror_traffic, now.mirror_traffic):
            return step
        made = self._client.online_endpoints.begin_create_or_update(endpoint).result()
        return attrs.evolve(step, outcome="created" if step.outcome == "created" else "changed", entity=made)

    def _tell(self, error: ModelportError, said: Sequence[_Said]) -> None:
        """Say in an error what was done before it, and what was not done."""
        done = [str(self._steps[id(each)]) for each in said if id(each) in self._steps]
        left = [f"not done   {each.title}" for each in said if id(each) not in self._steps]
        left += [f"not done   traffic of {each.title}" for each in said if self._lacks_traffic(each)]
        told = "\n  ".join([*done, *left])
        error.message = f"{error.message}\n  {told}\nMend it and apply again: what is done stays."
        error.args = (error.message, *error.args[1:])

    def _lacks_traffic(self, said: _Said) -> bool:
        step = self._steps.get(id(said))
        if step is None or not isinstance(said.entity, OnlineEndpoint):
            return False
        now = cast("OnlineEndpoint", step.entity)
        return not _shares(said.entity.traffic, now.traffic) or not _shares(
            said.entity.mirror_traffic, now.mirror_traffic
        )


def _quiet(endpoint: OnlineEndpoint) -> OnlineEndpoint:
    """The endpoint without a word about its traffic."""
    return changed(endpoint, traffic=None, mirror_traffic=None)


def _found(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except ResourceNotFoundError:
        return None


def _title(entity: Entity) -> str:
    name, version = getattr(entity, "name", None), getattr(entity, "version", None)
    if isinstance(entity, OnlineDeployment):
        return f"Deployment '{name}' of '{entity.endpoint_name}'"
    kind = kinds.of_entity(type(entity))
    what = (kind.name if kind else type(entity).__name__).capitalize()
    return f"{what} '{name}'" + (f", version {version}" if version else "")


def _has_files(there: str, path: str) -> bool:
    """Whether what a service has at `there` is what `path` names, by the hash of its content."""
    if is_uri(path):
        return there.lower().endswith(path.removeprefix("azureml://").lower())
    local, found = source(Path(path)), STORED.fullmatch(there)
    return bool(found) and found["path"] == f"{uploads.PLACE}/{local.object_hash()}/{local.name}"  # type: ignore[index]


def _strangers(each: _Said, endpoint: OnlineEndpoint, known: set[str]) -> Iterator[str]:
    """Names with a share of the traffic that no deployment has."""
    for rules in ("traffic", "mirror_traffic"):
        for name, share in (getattr(endpoint, rules) or {}).items():
            if share and name not in known:
                there = ", ".join(sorted(known)) or "none"
                message = f"Endpoint '{endpoint.name}' has no deployment '{name}', here or in the workspace ({there})."
                yield each.problem(f"{rules}.{name}", message)


def _refused(each: _Said, backend: str) -> Iterator[str]:
    """What is wrong with the files on this machine that a document names, and with what the service would refuse."""
    if isinstance(each.entity, (OnlineDeployment, OnlineEndpoint)):
        for found in preflight.report(each.entity, azure=not backend, here=backend).errors:
            remedy = "" if found.remedy == preflight.SKIP else found.remedy  # which is not for files to say
            yield each.problem(found.field, " ".join(filter(None, (found.message, remedy))))
    if isinstance(each.entity, Environment):
        for problem in preflight.environment_problems(each.entity):
            yield each.problem(problem.field, problem.message)
    if isinstance(each.entity, (Model, Data)) and each.entity.path:
        path = each.entity.path
        if not is_uri(path) and not Path(path).exists():
            yield each.problem("path", f"'{path}' does not exist.")
    if isinstance(each.entity, (Model, Environment, Data)) and not each.entity.name:
        yield each.problem("name", "An asset in a file of its own needs a name.")


def _shares(want: Mapping[str, int] | None, have: Mapping[str, int] | None) -> bool:
    """Whether the wanted traffic is there; None wants what there is."""
    if want is None:
        return True
    return {n: s for n, s in want.items() if s} == {n: s for n, s in (have or {}).items() if s}
