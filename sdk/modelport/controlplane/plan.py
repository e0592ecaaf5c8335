"""
Desired and actual, into steps.

A deployment is changed by starting the new replicas, waiting until they are ready,
moving the traffic, and only then stopping the old ones: a failed update leaves the
old deployment serving. Nothing here does I/O; `jobs` runs the steps.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from modelport.backends.base import Probe, Revision
from modelport.entities import Environment, OnlineDeployment, ProbeSettings
from modelport.entities.base import filled


@frozen
class Run:
    """Make the backend run a revision."""

    revision: Revision


@frozen
class Await:
    """Wait until all of a revision's replicas are ready, and none is too many."""

    revision: Revision


@frozen
class Serve:
    """Send the deployment's requests to a revision."""

    revision: Revision


@frozen
class Remove:
    """Drain and end a revision."""

    revision_id: str


Step = Run | Await | Serve | Remove


def plan(want: Revision, have: Revision | None) -> list[Step]:
    """
    The steps from the revision that serves, if any, to the one that is wanted; empty when they agree.

    A change of the number of instances or of the time limit keeps the replicas that run. Anything else replaces
    them all.

    Source: Azure keeps the old revision serving until the new one is ready (concept-endpoints-online, "safe rollout").
    """
    if have is None:
        return [Run(want), Await(want), Serve(want)]
    in_place = evolve(have, instances=want.instances, request_timeout=want.request_timeout)
    if in_place == have == evolve(want, id=have.id):
        return []
    if in_place == evolve(want, id=have.id):
        return [Run(in_place), Await(in_place), Serve(in_place)]
    return [Run(want), Await(want), Serve(want), Remove(have.id)]


def revision(
    deployment: OnlineDeployment, *, identifier: str, python: str, app_root: str, model_dir: str | None
) -> Revision:
    """
    What a backend needs to run `deployment`, which has the service's defaults.

    Args:
        deployment: Its record.
        identifier: The revision's id.
        python: Interpreter of the environment that was built.
        app_root: The code folder.
        model_dir: Folder that AZUREML_MODEL_DIR names.
    """
    settings, code = deployment.request_settings, deployment.code_configuration
    assert settings
    assert code
    assert code.scoring_script
    assert deployment.endpoint_name
    return Revision(
        id=identifier,
        endpoint=deployment.endpoint_name,
        deployment=deployment.name,
        instances=deployment.instance_count or 0,
        python=python,
        app_root=app_root,
        entry_script=code.scoring_script,
        model_dir=model_dir,
        environment_variables={name: str(value) for name, value in deployment.environment_variables.items()},
        max_concurrent_requests=settings.max_concurrent_requests_per_instance or 1,
        request_timeout=(settings.request_timeout_ms or 0) / 1000,
        liveness=_probe(deployment.liveness_probe),
        readiness=_probe(deployment.readiness_probe),
    )


def _probe(settings: ProbeSettings | None) -> Probe:
    said = filled(settings or ProbeSettings())
    return Probe(
        initial_delay=said.initial_delay or 0,
        period=said.period or 1,
        timeout=said.timeout or 1,
        success_threshold=said.success_threshold or 1,
        failure_threshold=said.failure_threshold or 1,
    )


def from_document(document: Mapping[str, object]) -> Revision:
    """The revision that `attrs.asdict` wrote down."""
    values = dict(document)
    for name in ("liveness", "readiness"):
        values[name] = Probe(**values[name])  # type: ignore[arg-type]
    return Revision(**values)  # type: ignore[arg-type]


def notes(deployment: OnlineDeployment, environment: Environment | None) -> list[str]:
    """What is recorded but not acted on by processes, a sentence each."""
    found = []
    if environment and environment.image:
        inside = "made from its conda file" if environment.conda_file else "with only what scoring needs"
        found.append(f"Image '{environment.image}' is recorded, not used: the replicas run in an environment {inside}.")
    if deployment.instance_type:
        kind = deployment.instance_type
        found.append(f"instance_type '{kind}' is recorded, not acted on: replicas share this machine.")
    ignored = {
        "data_collector": deployment.data_collector,
        "egress_public_network_access": deployment.egress_public_network_access == "disabled",
        "model_mount_path": deployment.model_mount_path,
        "app_insights_enabled": deployment.app_insights_enabled,
    }
    for name, said in ignored.items():
        if said:
            found.append(f"{name} is recorded, not acted on by processes.")
    return found
