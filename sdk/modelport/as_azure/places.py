"""
Which modules of azure-ai-ml there are for Modelport's names, and where Modelport has those.

Facts, as azure-ai-ml 1.35 has them: the public modules, and the private ones that public examples import from.
"""

from collections.abc import Mapping

TOP = "azure.ai.ml"

HOMES: Mapping[str, tuple[str, ...]] = {
    TOP: ("modelport",),
    f"{TOP}.constants": ("modelport.constants",),
    f"{TOP}.entities": ("modelport.entities",),
    f"{TOP}.exceptions": ("modelport.exceptions",),
    f"{TOP}.identity": ("modelport.identity",),
    f"{TOP}.operations": (
        "modelport.operations.assets",
        "modelport.operations.online_deployments",
        "modelport.operations.online_endpoints",
    ),
}
"""Azure's public modules, and where their names are here."""

_LEAVES = (
    "_ml_client",
    "_version",
    "constants._assets",
    "constants._common",
    "constants._workspace",
    "entities._assets._artifacts._package.base_environment_source",
    "entities._assets._artifacts._package.inferencing_server",
    "entities._assets._artifacts._package.model_configuration",
    "entities._assets._artifacts._package.model_package",
    "entities._assets._artifacts.code",
    "entities._assets._artifacts.data",
    "entities._assets._artifacts.model",
    "entities._assets.default_deployment_template",
    "entities._assets.environment",
    "entities._credentials",
    "entities._datastore.adls_gen1",
    "entities._datastore.azure_storage",
    "entities._datastore.datastore",
    "entities._deployment.code_configuration",
    "entities._deployment.container_resource_settings",
    "entities._deployment.data_asset",
    "entities._deployment.data_collector",
    "entities._deployment.deployment",
    "entities._deployment.deployment_collection",
    "entities._deployment.deployment_settings",
    "entities._deployment.online_deployment",
    "entities._deployment.request_logging",
    "entities._deployment.resource_requirements_settings",
    "entities._deployment.scale_settings",
    "entities._endpoint.endpoint",
    "entities._endpoint.online_endpoint",
    "entities._load_functions",
    "entities._system_data",
    "entities._workspace.workspace",
    "operations._data_operations",
    "operations._datastore_operations",
    "operations._environment_operations",
    "operations._model_operations",
    "operations._online_deployment_operations",
    "operations._online_endpoint_operations",
    "operations._workspace_operations",
)

PRIVATE = frozenset(
    f"{TOP}." + ".".join(steps[:depth])
    for steps in (leaf.split(".") for leaf in _LEAVES)
    for depth in range(1, len(steps) + 1)
) - set(HOMES)
"""Its private modules: each has, here, what the public one above it has, and what `azure.ai.ml` itself has."""


def public(module: str) -> str:
    """The public module that a module is, or is below of."""
    return max((home for home in HOMES if f"{module}.".startswith(f"{home}.")), key=len)
