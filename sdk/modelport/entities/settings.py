"""The parts of a deployment that say how its replicas are asked, probed, scaled and watched."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

import attrs
from attrs.validators import ge, in_, le

from modelport.entities.base import Entity, Problem, Variants, field, path_text
from modelport.entities.words import Asset, Choice, Milliseconds, Path, Seconds, Version

_ENABLED = Choice({"true": "enabled", "false": "disabled"})


@attrs.define
class OnlineRequestSettings(Entity):
    """How long and how many: limits on requests to one replica."""

    max_concurrent_requests_per_instance: int | None = field(service=1, check=ge(1))
    """How many requests may be inside `run()` of one replica at once."""

    request_timeout_ms: Milliseconds | None = field(
        wire="requestTimeout", service=5000, check=attrs.validators.and_(ge(1), le(300_000))
    )
    """Longest a request may take. Azure allows 180,000 on managed endpoints, 300,000 on Kubernetes."""

    max_queue_wait_ms: Milliseconds | None = field(wire="maxQueueWait", service=500, check=ge(0))
    """Deprecated by Azure: fold it into the timeout. Kept and sent, not acted on."""


@attrs.define(kw_only=True)
class ProbeSettings(Entity):
    """How a replica is asked whether it lives, or whether it is ready. Times in seconds."""

    initial_delay: Seconds | None = field(service=10, check=ge(0))
    """Failures before this do not count."""

    period: Seconds | None = field(service=10, check=ge(1))
    """Time from one question to the next."""

    timeout: Seconds | None = field(service=2, check=ge(1))
    """How long an answer may take."""

    success_threshold: int | None = field(service=1, check=ge(1))
    """Successes in a row after which a replica counts as well again."""

    failure_threshold: int | None = field(service=30, check=ge(1))
    """Failures in a row after which a replica counts as ill."""


@attrs.define(kw_only=True)
class OnlineScaleSettings(Entity):
    """How the number of instances is decided."""

    variants = Variants(file="type", wire="scaleType", default="default")


@attrs.define(kw_only=True)
class DefaultScaleSettings(OnlineScaleSettings):
    """The number of instances is what the deployment says."""

    variant = ("default", "Default")


@attrs.define(kw_only=True)
class TargetUtilizationScaleSettings(OnlineScaleSettings):
    """Kubernetes: the number of instances follows how busy they are."""

    variant = ("target_utilization", "TargetUtilization")

    min_instances: int | None = field(check=ge(0))
    """Never fewer than these."""

    max_instances: int | None = field(check=ge(1))
    """Never more than these."""

    polling_interval: Seconds | None = field(check=ge(1))
    """How often to look, in seconds."""

    target_utilization_percentage: int | None = field(check=attrs.validators.and_(ge(1), le(100)))
    """Busy and queued requests, as a share of what the instances take."""

    def check(self) -> Iterator[Problem]:
        """Fewest and most must agree."""
        if self.min_instances and self.max_instances and self.min_instances > self.max_instances:
            yield Problem("min_instances", f"{self.min_instances} is more than max_instances, {self.max_instances}.")


@attrs.define
class CodeConfiguration(Entity):
    """The scoring script and the folder that it stands in."""

    code: Annotated[Path, Asset("codes")] | None = field(wire="codeId", convert=path_text)
    """A local folder, `azureml:name:version`, or the ARM id of a code asset."""

    scoring_script: str | None = field(required=True)
    """Path of the script in the folder."""


@attrs.define
class ResourceSettings(Entity):
    """Amounts as Kubernetes writes them: `"0.5"`, `"512Mi"`."""

    cpu: str | None = field()
    """Cores."""

    memory: str | None = field()
    """Bytes, with a unit."""

    gpu: str | None = field(aka=("nvidia.com/gpu",))
    """Whole GPUs."""


@attrs.define
class ResourceRequirementsSettings(Entity):
    """What each instance gets at least, and at most."""

    requests: ResourceSettings | None = field(wire="containerResourceRequests")
    """At least."""

    limits: ResourceSettings | None = field(wire="containerResourceLimits")
    """At most."""


@attrs.define(kw_only=True)
class DataAsset(Entity):
    """Where a collection is written."""

    data_id: str | None = field(wire=None)
    """Id of a data asset that exists."""

    name: str | None = field(wire=None)
    """Name of the data asset."""

    version: Annotated[str, Version()] | None = field(wire=None, convert=Version.python)
    """Version of the data asset."""

    path: str | None = field(wire=None)
    """Where its files are."""


@attrs.define(kw_only=True)
class DeploymentCollection(Entity):
    """One stream of collected data."""

    enabled: Annotated[str, _ENABLED] | None = field(wire="dataCollectionMode", convert=_ENABLED.python)
    """Whether it is collected. Azure asks for the word `"true"`; a boolean is taken too."""

    data: Annotated[str, Asset("data")] | DataAsset | None = field(wire="dataId")
    """Where to; None makes a data asset `{endpoint}-{deployment}-{collection}`."""

    sampling_rate: float | None = field(file=False)
    """Share of requests that are collected, 0.0 to 1.0; set for all of a collector's collections there."""

    client_id: str | None = field(wire=None)
    """Client id of the identity that writes."""


@attrs.define(kw_only=True)
class RequestLogging(Entity):
    """Which headers go along with collected requests."""

    capture_headers: list[str] | None = field()
    """Names of headers."""


@attrs.define
class DataCollector(Entity):
    """What of the traffic is kept."""

    MOST: ClassVar[int] = 5

    collections: dict[str, DeploymentCollection] = field(factory=dict, required=True)
    """Collections by name; `request` and `response` are filled by the service."""

    rolling_rate: str | None = field(check=in_(["minute", "hour", "day"]))
    """How often a new file begins."""

    sampling_rate: float | None = field(wire=None, check=attrs.validators.and_(ge(0.0), le(1.0)))
    """Share of requests that are collected, in every collection."""

    request_logging: RequestLogging | None = field()
    """Headers to keep."""

    def check(self) -> Iterator[Problem]:
        """Azure takes five collections."""
        if len(self.collections) > self.MOST:
            yield Problem("collections", f"{len(self.collections)} collections; Azure takes at most {self.MOST}.")


@attrs.define(kw_only=True)
class Route(Entity):
    """A port and a path that a container answers on."""

    port: int | None = field(required=True)
    """Port in the container."""

    path: str | None = field(required=True)
    """Path, with its slash."""


@attrs.define(kw_only=True)
class InferenceConfig(Entity):
    """How a container of the user's own is asked."""

    liveness_route: Route | None = field(required=True)
    """Answers 200 while the container lives."""

    readiness_route: Route | None = field(required=True)
    """Answers 200 when it can score."""

    scoring_route: Route | None = field(required=True)
    """Takes the requests."""
