"""
Desired and actual, into steps.

A deployment is changed by starting the new replicas, waiting until they are ready,
moving the traffic, and only then stopping the old ones: a failed update leaves the
old deployment serving. Nothing here does I/O; `jobs` runs the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from posixpath import normpath

from attrs import evolve, frozen

from modelport.backends.base import Probe, Revision, Route, Routes
from modelport.builds.base import Built, Wanted
from modelport.entities import Environment, OnlineDeployment, OnlineEndpoint, ProbeSettings, here, sizes
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

MODELS = "/var/azureml-app/azureml-models"
"""Where containers find models, unless `model_mount_path` says so. Source: Azure's local endpoints, and its docs."""

_DEBUGGING = 3600.0
"""Seconds that a request may take when somebody may be stepping through it."""


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


@frozen(kw_only=True)
class Parts:
    """What a deployment's references stand for, on this machine's disk."""

    environment: Environment | None = None
    context: Path | None = None
    """The folder that the environment's image is built from."""
    app_root: str = ""
    """The code folder; empty when there is no code."""
    model_dir: str | None = None
    """A folder with the model alone; None when there is no model."""
    model: str = ""
    """`name/version` of the model."""


def wanted(deployment: OnlineDeployment, parts: Parts) -> Wanted:
    """What a builder is asked for."""
    environment, options = parts.environment, here.of(deployment)
    tools = ("debugpy",) if options.debug else ()
    if environment is None:
        return Wanted(tools=tools)
    conda = environment.conda_file
    return Wanted(
        conda=conda if isinstance(conda, dict) else None,
        image=environment.image,
        context=parts.context,
        dockerfile=(environment.build and environment.build.dockerfile_path) or Wanted().dockerfile,
        own_server=environment.inference_config is not None,
        azure_server=options.scoring_server == here.AZURE_SERVER,
        tools=tools,
    )


def revision(deployment: OnlineDeployment, *, identifier: str, built: Built, parts: Parts) -> Revision:
    """
    What a backend needs to run `deployment`, which has the service's defaults.

    Args:
        deployment: Its record.
        identifier: The revision's id.
        built: What was built for it.
        parts: Its files.
    """
    settings, code, options = deployment.request_settings, deployment.code_configuration, here.of(deployment)
    assert settings
    assert deployment.endpoint_name
    size = deployment.instance_type if options.enforce_instance_type else None
    timeout = _DEBUGGING if options.debug else (settings.request_timeout_ms or 0) / 1000
    liveness = _probe(deployment.liveness_probe)
    return Revision(
        id=identifier,
        endpoint=deployment.endpoint_name,
        deployment=deployment.name,
        instances=deployment.instance_count or 0,
        environment=built.key,
        python=built.python,
        image=built.image,
        app_root=parts.app_root,
        entry_script=(code.scoring_script if code else None) or "",
        model_dir=parts.model_dir,
        # Docker mounts at the path without dots, and without them a script finds it.
        model_mount=normpath(f"{deployment.model_mount_path or MODELS}/{parts.model}") if parts.model_dir else "",
        routes=_routes(parts.environment),
        azure_server=options.scoring_server == here.AZURE_SERVER,
        environment_variables={name: str(value) for name, value in deployment.environment_variables.items()},
        max_concurrent_requests=settings.max_concurrent_requests_per_instance or 1,
        request_timeout=timeout,
        # All threads of a replica stand still at a breakpoint, also those that answer probes.
        liveness=evolve(liveness, failure_threshold=10**6) if options.debug else liveness,
        readiness=_probe(deployment.readiness_probe),
        egress=deployment.egress_public_network_access != "disabled",
        cpus=sizes.cores(size) if size else None,
        memory_bytes=sizes.memory_bytes(size) if size else None,
        gpus=options.local_enable_gpu,
        debug=options.debug,
    )


def _routes(environment: Environment | None) -> Routes | None:
    said = environment.inference_config if environment else None
    if said is None:
        return None
    parts = {name: getattr(said, f"{name}_route") for name in ("liveness", "readiness", "scoring")}
    return Routes(**{name: Route(port=each.port, path=f"/{each.path.lstrip('/')}") for name, each in parts.items()})


def _probe(settings: ProbeSettings | None) -> Probe:
    said = filled(settings or ProbeSettings())
    return Probe(
        initial_delay=said.initial_delay or 0,
        period=said.period or 1,
        timeout=said.timeout or 1,
        success_threshold=said.success_threshold or 1,
        failure_threshold=said.failure_threshold or 1,
    )


def mirror_notes(endpoint: OnlineEndpoint, scoring: Mapping[str, str]) -> list[str]:
    """
    What mirrors get in another way than asked for, a sentence each.

    `scoring` says at which path each deployment scores. A proxy copies a request as it sends it, path and all.
    """
    live = [name for name, share in (endpoint.traffic or {}).items() if share]
    return [
        f"Copies for '{mirror}' keep the path that the request has for '{name}', '{scoring[name]}', and '{mirror}' "
        f"scores at '{scoring[mirror]}'. Have both score at the same path."
        for mirror, share in (endpoint.mirror_traffic or {}).items()
        for name in live
        if share and scoring.get(mirror, "") != scoring.get(name, "") and mirror in scoring and name in scoring
    ]


def notes(deployment: OnlineDeployment, environment: Environment | None, backend: str) -> list[str]:
    """What is recorded but not acted on by `process` or `docker`, a sentence each."""
    found = []
    processes, options, size = backend == "process", here.of(deployment), deployment.instance_type
    if processes and environment and environment.image:
        inside = "made from its conda file" if environment.conda_file else "with only what scoring needs"
        found.append(f"Image '{environment.image}' is recorded, not used: the replicas run in an environment {inside}.")
    if size and (processes or not options.enforce_instance_type):
        how = "" if processes else f" The property '{here.name('enforce_instance_type')}' has them keep to it."
        found.append(f"instance_type '{size}' is recorded, not acted on: replicas share this machine.{how}")
    elif size and not sizes.cores(size):
        found.append(f"instance_type '{size}' is not a size that is known here: replicas may use all of this machine.")
    ignored = {
        "data_collector": deployment.data_collector,
        "egress_public_network_access": processes and deployment.egress_public_network_access == "disabled",
        "model_mount_path": processes and deployment.model_mount_path,
        "app_insights_enabled": deployment.app_insights_enabled,
    }
    where = "processes" if processes else "containers on this machine"
    found += [f"{name} is recorded, not acted on by {where}." for name, said in ignored.items() if said]
    return found
