"""A deployment: a model, the script that scores with it, what that runs in, and how many of it."""

from collections.abc import Iterator
from typing import Annotated, Any

import attrs
from attrs.validators import ge

from modelport.entities import assets
from modelport.entities.base import Entity, Problem, Variants, field, names_only, path_text
from modelport.entities.endpoint import ACCESS
from modelport.entities.names import lower_case, resource_name
from modelport.entities.settings import (
    CodeConfiguration,
    DataCollector,
    DefaultScaleSettings,
    OnlineRequestSettings,
    OnlineScaleSettings,
    ProbeSettings,
    ResourceRequirementsSettings,
    TargetUtilizationScaleSettings,
)
from modelport.entities.words import Asset


@attrs.define(kw_only=True)
class OnlineDeployment(Entity):
    """What all deployments have. Make a `ManagedOnlineDeployment` or a `KubernetesOnlineDeployment`."""

    place = "onlineEndpoints/{endpoint_name}/deployments/{name}"
    home = "properties"
    constants = {"sku.name": "Default"}
    variants = Variants(file="type", wire="endpointComputeType", default="managed")

    name: str = field(identity=True, required=True, convert=lower_case, check=resource_name("a deployment"))
    """3 to 32 letters, digits and '-', starting with a letter; lower-cased."""

    endpoint_name: str | None = field(identity=True, required=True, convert=lower_case)
    """The endpoint that it belongs to."""

    description: str | None = field()
    """Free text."""

    tags: dict[str, Any] = field(factory=dict, wire="/tags")
    """Labels, sent as they are."""

    properties: dict[str, Any] = field(factory=dict)
    """Labels that Azure never lets one remove."""

    location: str | None = field(wire="/location", file=False, eq=False, show=False)
    """Region; the workspace's is sent."""

    model: Annotated[str, Asset("models")] | assets.Model | None = field()
    """A model, `azureml:name:version`, `azureml:name@latest`, a registry URI or an ARM id."""

    code_configuration: CodeConfiguration | None = field()
    """The scoring script. None for containers and models that bring their own server."""

    environment: Annotated[str, Asset("environments")] | assets.Environment | None = field(wire="environmentId")
    """What the script runs in; the same forms as `model`."""

    environment_variables: dict[str, Any] = field(factory=dict, show=names_only)
    """Variables that the script sees; only their names are shown, as values may be secrets."""

    instance_type: str | None = field()
    """Size of the machine, `Standard_DS3_v2`; recorded, not acted on, where there are no machines to choose from."""

    instance_count: int | None = field(wire="/sku.capacity", service=1, check=ge(0))
    """How many replicas."""

    app_insights_enabled: bool | None = field(False)
    """Whether telemetry goes to Application Insights."""

    scale_settings: OnlineScaleSettings | None = field(service=DefaultScaleSettings)
    """How the number of instances is decided; the service's default is to keep it."""

    request_settings: OnlineRequestSettings | None = field(service=OnlineRequestSettings)
    """How long and how many."""

    liveness_probe: ProbeSettings | None = field(service=ProbeSettings)
    """When a replica is restarted."""

    readiness_probe: ProbeSettings | None = field(service=ProbeSettings)
    """When a replica gets requests."""

    model_mount_path: str | None = field()
    """Where a container of the user's own finds the model."""

    data_collector: DataCollector | None = field()
    """What of the traffic is kept."""

    egress_public_network_access: Annotated[str, ACCESS] | None = field(convert=ACCESS.python)
    """`disabled` keeps replicas from calling out."""

    id: str | None = field(wire="/id", owned=True, file=False, eq=False)
    """ARM id."""

    provisioning_state: str | None = field(owned=True, file=False, eq=False)
    """`Creating`, `Updating`, `Scaling`, `Deleting`, `Succeeded`, `Failed` or `Canceled`."""

    system_data: dict[str, Any] | None = field(wire="/systemData", owned=True, file=False, eq=False, show=False)
    """Who made it and changed it last, and when, as the service says."""

    code_path: str | None = field(wire=None, file=False, show=False, convert=path_text)
    """Shorthand in Python for `code_configuration.code`."""

    scoring_script: str | None = field(wire=None, file=False, show=False)
    """Shorthand in Python for `code_configuration.scoring_script`."""

    def __attrs_post_init__(self) -> None:
        """Fold the shorthand into `code_configuration`, and mappings into what they describe."""
        if type(self).variant is None:
            raise TypeError(
                "OnlineDeployment cannot be made: make a ManagedOnlineDeployment or a KubernetesOnlineDeployment."
            )
        if (self.code_path or self.scoring_script) and self.code_configuration is None:
            self.code_configuration = CodeConfiguration(self.code_path, self.scoring_script)
            self.code_path = self.scoring_script = None

    @property
    def type(self) -> str | None:
        """`managed` or `kubernetes`, as files have it."""
        return self.variant[0] if self.variant else None

    def check(self) -> Iterator[Problem]:
        """What no field shows alone."""
        if self.code_path or self.scoring_script:
            yield Problem(
                "code_configuration",
                "code_path and scoring_script are not allowed if code_configuration is provided.",
            )
        if self.endpoint_name is None:
            yield Problem("endpoint_name", f"Deployment '{self.name}' has no endpoint_name: name its endpoint.")
        if self.code_configuration and not self.code_configuration.scoring_script:
            yield Problem("code_configuration.scoring_script", "Scoring script can't be empty.")
        for name, value in self.environment_variables.items():
            if not name or "=" in name or "\0" in f"{name}{value}":
                message = (
                    f"{name!r} cannot be given to a program: a name has a letter and no '=', and nothing has a NUL."
                )
                yield Problem("environment_variables", message)
        if self.model_mount_path and not self.model_mount_path.startswith("/"):
            message = f"'{self.model_mount_path}' is not absolute. Write '/{self.model_mount_path}'."
            yield Problem("model_mount_path", message)


@attrs.define(kw_only=True)
class ManagedOnlineDeployment(OnlineDeployment):
    """A deployment of a managed endpoint."""

    variant = ("managed", "Managed")
    MOST_MILLISECONDS = 180_000

    private_network_connection: bool | None = field()
    """Azure's experimental switch for a private network."""

    package_model: bool | None = field(wire=None, file=False)
    """Whether the model is packaged with its environment before it is deployed."""

    with_package: bool | None = field(wire=None, file=False, show=False)
    """`package_model` as Azure's examples say it."""

    def __attrs_post_init__(self) -> None:
        """Both spellings of `package_model` are one."""
        OnlineDeployment.__attrs_post_init__(self)
        if self.package_model is None:
            self.package_model = self.with_package
        self.with_package = None

    def check(self) -> Iterator[Problem]:
        """What managed endpoints refuse."""
        yield from OnlineDeployment.check(self)
        if isinstance(self.scale_settings, TargetUtilizationScaleSettings):
            yield Problem("scale_settings", "ManagedOnlineEndpoint supports DefaultScaleSettings only.")
        limit = self.request_settings.request_timeout_ms if self.request_settings else None
        if limit and limit > self.MOST_MILLISECONDS:
            message = f"{limit} is more than the {self.MOST_MILLISECONDS} that managed endpoints take."
            yield Problem("request_settings.request_timeout_ms", message)


@attrs.define(kw_only=True)
class KubernetesOnlineDeployment(OnlineDeployment):
    """A deployment on a cluster of the user's own."""

    variant = ("kubernetes", "Kubernetes")

    resources: ResourceRequirementsSettings | None = field(
        wire="containerResourceRequirements", service=ResourceRequirementsSettings
    )
    """What each instance gets at least, and at most."""
