"""
What operations do after they were accepted.

A job may be run again from its start: the server may die at any point and, when it
comes back, takes up every operation that has not ended. So each step is one that
finds its work done already, and the id of a new revision comes from the operation.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import attrs

from modelport import errors
from modelport.arm import faults
from modelport.backends.base import Backend, Failure, Replica, Revision, revision_from
from modelport.builds.base import Builder, Built, Wanted
from modelport.controlplane import auth, debugging, plan
from modelport.controlplane.lanes import Lanes
from modelport.controlplane.rules import Rules, loaded
from modelport.controlplane.store import Operation, Resource, Store, Transaction
from modelport.entities import OnlineDeployment, OnlineEndpoint
from modelport.errors import DeploymentFailed, ModelportError, OperationCanceled
from modelport.gateway import routes
from modelport.gateway.runner import Gateway

logger = logging.getLogger(__name__)

WARNING = "Warning: "
"""How messages begin that tell of something met in another way than asked for."""

_SCORING = "/score"
_POLL = 0.05
_COMING_UP = 15.0
"""Seconds that a server which starts waits for replicas, so that whoever finds it finds the endpoints too."""

_MOST_ENDS = 3
"""How often a replica may end before it was ever ready, when nothing says that its script is at fault."""

_AWAY = errors.DockerEngineNotAvailableError.code
"""What says nothing of a replica: the engine may be back in a moment."""

_HOPELESS = (
    errors.UserScriptError,
    errors.ResourceNotReady,
    errors.LocalDeploymentGPUNotAvailable,
    errors.ImageBuildFailure,
)
"""What does not go away by itself."""

_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_TOKENS = 60.0
"""Seconds between two looks at the clock for the tokens' sake."""


class Jobs:
    """Runs operations, and keeps the gateway's routes as the workspace says."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        backend: Backend,
        gateway: Gateway,
        builder: Builder,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        most_bytes: int | None,
    ) -> None:
        self._store, self._rules, self._backend = store, rules, backend
        self._gateway, self._builder, self._clock, self._new_id = gateway, builder, clock, new_id
        self._most_bytes = most_bytes
        self._lanes = Lanes()
        self._routing = threading.RLock()
        self._changed = threading.Condition()
        self._recovering = True
        self._closing = threading.Event()
        self._given_up: set[str] = set()
        self._progress: dict[str, str] = {}
        backend.changed = self._replicas_changed

    # What the rest of the control plane calls

    def start(self) -> None:
        """
        Take up where the last server stopped.

        Serving replicas are adopted or started, those that nobody needs are ended, operations that had not ended
        go on. The gateway's routes are left alone until every replica that was ready is known again.
        """
        self._gateway.start()
        with self._store.writing() as transaction:
            self._rebuild(transaction)
            running = transaction.running()
            revisions = serving(transaction)
        for revision in revisions:
            self._backend.apply(revision)
        self._recovering = False
        self.route()
        self._wait(lambda: all(self._settled(each) for each in revisions), _COMING_UP)
        needed = {each.id for each in revisions} | {revision_id(each) for each in running}
        for orphan in self._backend.revisions() - needed:
            self._lanes.put("orphans", partial(self._backend.remove, orphan))
        for operation in running:
            self.begin(operation)
        if self._most_bytes is not None:
            keep = {each.environment for each in revisions}
            self._lanes.put("prune", partial(self._builder.prune, keep, self._most_bytes))
        threading.Thread(target=self._renew_tokens, name="modelport-tokens", daemon=True).start()

    def begin(self, operation: Operation) -> None:
        """Run an operation that was recorded. Operations on the deployments of one endpoint keep their order."""
        endpoint = "/".join(operation.place.split("/")[:2])
        # An endpoint is changed at once, and deleted after what goes on with its deployments.
        alone = operation.place == endpoint and operation.verb != "delete"
        self._lanes.put(endpoint.lower() if alone else f"{endpoint.lower()}/deployments", lambda: self._run(operation))

    def give_up(self, operations: list[Operation]) -> None:
        """Stop working on operations that were recorded as canceled, and end what they started."""
        self._given_up |= {each.id for each in operations}
        with self._changed:
            self._changed.notify_all()

    def progress(self, operation: str) -> str:
        """What an operation is at now; empty when it has nothing to tell."""
        return self._progress.get(operation, "")

    def route(self) -> None:
        """
        Tell the gateway what the workspace says now; return when it has it.

        Raises:
            errors.GatewayRejected: Envoy refused; what was in force before still is.
        """
        with self._routing:
            self._gateway.apply(self._endpoints())

    def close(self, *, stop: bool) -> None:
        """End the jobs' threads, and with `stop` also every replica. What serves is remembered."""
        self._closing.set()
        self._builder.close()
        with self._changed:
            self._changed.notify_all()
        self._lanes.wait_until_empty(10)
        if stop:
            threads = [
                threading.Thread(target=self._backend.remove, args=(each,)) for each in self._backend.revisions()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    # Operations

    def _rebuild(self, transaction: Transaction) -> None:
        """Begin an operation for each deployment whose environment is gone: the cache is a folder that people empty."""
        for each in _deployments(transaction):
            serving = serving_in(each)
            if serving and not self._builder.has(serving.environment) and not transaction.running(each.place):
                transaction.begin(Operation(self._new_id(), each.place, "put"))

    def _run(self, operation: Operation) -> None:
        """Run an operation to its end, unless the server is stopped: then the next one takes it up."""
        if self._closing.is_set() or operation.id in self._given_up:
            return
        try:
            if operation.verb == "delete":
                self._delete(operation)
            elif "/deployments/" in operation.place:
                self._put_deployment(operation)
            else:
                self._put_endpoint(operation)
        except OperationCanceled as error:
            self._fail(operation, "Canceled", error)
        except ModelportError as error:
            self._fail(operation, "Failed", error)
        except Exception as error:
            logger.exception("Operation %s on %s raised", operation.id, operation.place)
            self._fail(operation, "Failed", ModelportError(f"{type(error).__name__}: {error}"))

    def _fail(self, operation: Operation, status: str, error: ModelportError) -> None:
        self._progress.pop(operation.id, None)
        if not self._closing.is_set() and operation.id not in self._given_up:
            self._end(operation, status, error)

    def _put_endpoint(self, operation: Operation) -> None:
        self.route()
        with self._store.reading() as transaction:
            there = transaction.get(operation.place)
            below = transaction.resources(f"{operation.place}/deployments")
        scoring = {
            each.place.rpartition("/")[2]: revision.routes.scoring.path if revision.routes else _SCORING
            for each in below
            if (revision := serving_in(each))
        }
        for note in plan.mirror_notes(loaded(OnlineEndpoint, there), scoring) if there else ():
            self._tell(operation, f"{WARNING}{note}")
        self._end(operation, "Succeeded")

    def _put_deployment(self, operation: Operation) -> None:
        with self._store.reading() as transaction:
            there = transaction.get(operation.place)
            if there is None:
                raise OperationCanceled(f"'{operation.place}' was deleted before the operation began.")
            deployment = loaded(OnlineDeployment, there)
            parts = self._rules.parts(transaction, deployment)
        for note in plan.notes(deployment, parts.environment, self._rules.backend):
            self._tell(operation, note)
        built = self._built(operation, plan.wanted(deployment, parts))
        self._progress.pop(operation.id, None)
        for warning in built.warnings:
            self._tell(operation, f"{WARNING}{warning}")
        want = plan.revision(deployment, identifier=revision_id(operation), built=built, parts=parts)
        have = serving_in(there)
        try:
            for step in plan.plan(want, have):
                self._take(step, operation)
        except OperationCanceled:
            for each in (want, have) if operation.id in self._given_up else ():
                if each:
                    self._backend.remove(each.id)
            raise
        self.route()
        self._tell_of_debuggers(operation, deployment)
        self._end(operation, "Succeeded")

    def _tell_of_debuggers(self, operation: Operation, deployment: OnlineDeployment) -> None:
        there = self._store.get(operation.place)
        revision = serving_in(there) if there else None
        if revision:
            for note in debugging.notes(deployment, revision, self._backend.replicas(revision.id)):
                self._tell(operation, note)

    def _built(self, operation: Operation, wanted: Wanted) -> Built:
        """
        What the deployment runs in.

        A build hears that it is not wanted when it has a line to tell, which may take an hour: who deletes the
        deployment does not wait for that.
        """
        building: Future[Built] = Future()

        def build() -> None:
            try:
                building.set_result(self._builder.build(wanted, partial(self._heard, operation)))
            except BaseException as error:  # noqa: BLE001 (it is raised below)
                building.set_exception(error)
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=build, name=f"modelport-build-{operation.id}", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: building.done() or operation.id in self._given_up)
        if not building.done():
            self._go_on(operation)
        return building.result()

    def _heard(self, operation: Operation, line: str) -> None:
        """Take note of a builder's line; what it builds may not be wanted any more."""
        self._go_on(operation)
        self._progress[operation.id] = line
        logger.info("%s: %s", operation.place, line)

    def _take(self, step: plan.Step, operation: Operation) -> None:
        self._go_on(operation)
        match step:
            case plan.Run(revision):
                self._backend.apply(revision)
            case plan.Await(revision):
                self._await(revision, operation)
            case plan.Serve(revision):
                self._serve(revision, operation)
            case plan.Remove(revision_id):
                self._backend.remove(revision_id)

    def _serve(self, revision: Revision, operation: Operation) -> None:
        """Send requests to the revision; what served before goes on to, should the gateway refuse."""
        there = self._store.get(operation.place)
        before = serving_in(there) if there else None
        document = attrs.asdict(revision)
        self._change(operation.place, lambda private: {**private, "serving": document})
        try:
            self.route()
        except errors.GatewayRejected:
            kept = attrs.asdict(before) if before else None
            self._change(operation.place, lambda private: {**private, "serving": kept})
            self._undo(revision, before)
            raise

    def _undo(self, revision: Revision, before: Revision | None) -> None:
        """End a revision that will not serve, or bring it back to what it was."""
        if before is None or before.id != revision.id:
            self._backend.remove(revision.id)
        else:
            self._backend.apply(before)

    def _await(self, revision: Revision, operation: Operation) -> None:
        """Wait until the revision is as it should be; one that fails before it ever served is removed."""
        deadline = time.monotonic() + max(revision.readiness.deadline, revision.request_timeout) * (_MOST_ENDS + 1) + 60
        while True:
            replicas = self._backend.replicas(revision.id)
            ready = sum(each.state == "ready" for each in replicas)
            if ready == len(replicas) == revision.instances:
                return
            self._go_on(operation)
            failure = _final(replicas) or (_late(ready, revision) if time.monotonic() > deadline else None)
            if failure:
                there = self._store.get(operation.place)
                self._undo(revision, serving_in(there) if there else None)
                raise _deployment_failed(revision, failure)
            with self._changed:
                self._changed.wait(_POLL)

    def _go_on(self, operation: Operation) -> None:
        if self._closing.is_set():
            raise OperationCanceled("The server was stopped; the operation goes on when it is up again.")
        if operation.id in self._given_up:
            raise OperationCanceled("The deployment is deleted.")

    def _delete(self, operation: Operation) -> None:
        with self._store.reading() as transaction:
            there = transaction.get(operation.place)
            below = transaction.resources(f"{operation.place}/deployments")
        self.route()  # what is being deleted is not routed
        for each in [*below, *([there] if there else [])]:
            serving = serving_in(each)
            if serving:
                self._backend.remove(serving.id)
        with self._store.writing() as transaction:
            transaction.delete(operation.place)
            transaction.end(operation.id, "Succeeded")

    def _end(self, operation: Operation, status: str, error: ModelportError | None = None) -> None:
        """Record how it ended, in the operation and in the resource, at once."""
        with self._store.writing() as transaction:
            there = transaction.get(operation.place)
            if there and there.leaving and operation.verb == "put":
                return  # it was given up just now: the deletion has said how it ended
            if there:
                properties = {**there.body["properties"], "provisioningState": status}
                transaction.amend(attrs.evolve(there, body={**there.body, "properties": properties}))
            transaction.end(operation.id, status, faults.fault_of(error) if error else None)

    def _tell(self, operation: Operation, message: str) -> None:
        with self._store.writing() as transaction:
            transaction.tell(operation.id, message)

    def _change(self, place: str, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
        with self._store.writing() as transaction:
            there = transaction.get(place)
            if there:
                transaction.amend(attrs.evolve(there, private=change(there.private)))

    # What there is

    def _endpoints(self) -> list[routes.Endpoint]:
        """The routes that the workspace asks for now."""
        now = self._clock()
        with self._store.reading() as transaction:
            endpoints = transaction.resources("onlineEndpoints")
            deployments = {each.place: transaction.resources(f"{each.place}/deployments") for each in endpoints}
        return [self._endpoint(each, deployments[each.place], now) for each in endpoints if not each.leaving]

    def _endpoint(self, resource: Resource, deployments: list[Resource], now: float) -> routes.Endpoint:
        endpoint = loaded(OnlineEndpoint, resource)
        mode = resource.body["properties"]["authMode"]
        return routes.Endpoint(
            name=endpoint.name,
            keys=auth.accepted(mode, resource.private["credentials"], now),
            traffic={name: share for name, share in (endpoint.traffic or {}).items() if share},
            mirror={name: share for name, share in (endpoint.mirror_traffic or {}).items() if share},
            deployments={
                each.place.rpartition("/")[2]: self._deployment(each) for each in deployments if not each.leaving
            },
        )

    def _deployment(self, resource: Resource) -> routes.Deployment:
        serving = serving_in(resource)
        if serving is None:
            return routes.Deployment(addresses=(), timeout=1.0)
        scoring = serving.routes.scoring.path if serving.routes else None
        return routes.Deployment(
            addresses=tuple(self._ready(serving.id)), timeout=serving.request_timeout, scoring=scoring
        )

    def _ready(self, revision_id: str) -> list[str]:
        return [each.address for each in self._backend.replicas(revision_id) if each.state == "ready"]

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            with self._changed:
                self._changed.wait(_POLL)

    def _settled(self, revision: Revision) -> bool:
        """Whether each of its replicas is ready, or has shown that it will not be soon."""
        return all(each.state == "ready" or each.failure for each in self._backend.replicas(revision.id))

    # What happens

    def _replicas_changed(self, _revision_id: str) -> None:
        with self._changed:
            self._changed.notify_all()
        if not self._recovering:
            self.route()

    def _renew_tokens(self) -> None:
        """Tell the gateway of new tokens when a window begins; a machine that slept notices within a minute."""
        told = auth.window(self._clock())
        while not self._closing.wait(_TOKENS):
            now = auth.window(self._clock())
            if now != told and self._routed():
                told = now

    def _routed(self) -> bool:
        try:
            self.route()
        except ModelportError:
            logger.exception("The gateway was not told of the present routes")
            return False
        return True


def _deployments(transaction: Transaction) -> list[Resource]:
    """All deployments that are to stay."""
    return [
        deployment
        for endpoint in transaction.resources("onlineEndpoints")
        if not endpoint.leaving
        for deployment in transaction.resources(f"{endpoint.place}/deployments")
        if not deployment.leaving
    ]


def serving(transaction: Transaction) -> list[Revision]:
    """The revisions that serve, of all deployments that are to stay."""
    return [revision for each in _deployments(transaction) if (revision := serving_in(each))]


def serving_in(resource: Resource) -> Revision | None:
    """The revision that serves a deployment; None when there is none yet."""
    document = resource.private.get("serving")
    return revision_from(document) if document else None


def revision_id(operation: Operation) -> str:
    """The id of the revision that an operation makes: the same when the operation is taken up again."""
    names = operation.place.lower().split("/")[1::2]
    return "-".join([*names, operation.id[:8]])


def _final(replicas: list[Replica]) -> Failure | None:
    """The failure that ends a deployment's operation; None while there is hope."""
    for each in replicas:
        if each.failure is None or each.state == "ready" or each.failure.code == _AWAY:
            continue
        kind = _class_of(each.failure)
        if issubclass(kind, _HOPELESS) or each.restarts >= _MOST_ENDS:
            return each.failure
    return None


def _late(ready: int, revision: Revision) -> Failure:
    return Failure(code="ResourceNotReady", message=f"{ready} of {revision.instances} replicas became ready in time.")


def _class_of(failure: Failure) -> type[DeploymentFailed]:
    kind = getattr(errors, failure.code, DeploymentFailed)
    return kind if isinstance(kind, type) and issubclass(kind, DeploymentFailed) else DeploymentFailed


def _deployment_failed(revision: Revision, failure: Failure) -> DeploymentFailed:
    hint = _missing(failure.message)
    lines = f"\n{failure.log.rstrip()}" if failure.log.strip() else ""
    message = f"Deployment '{revision.deployment}' of '{revision.endpoint}' failed: {failure.message}{hint}{lines}"
    return _class_of(failure)(message)


def _missing(message: str) -> str:
    """What helps against a module that is not there; nothing when none is."""
    found = _NO_MODULE.search(message)
    if not found:
        return ""
    package, _, inside = found[1].partition(".")
    if inside:
        return (
            f" Where '{package}' is there in another version than the model was saved with, pin that version in the "
            "environment's conda file."
        )
    return " Add the package to the environment's conda file, or the module to the code folder."
