"""
What the constructors take, beside what Azure's take.

The table is a fact: azure-ai-ml 1.35's own signatures, `*` before what can only be given by name.
"""

import inspect

import attrs
import pytest

from modelport import entities

AZURE = {
    "AzureMLBatchInferencingServer": "* code_configuration",
    "AzureMLOnlineInferencingServer": "* code_configuration",
    "BaseEnvironment": "type resource_id",
    "BuildContext": "* dockerfile_path path",
    "CodeConfiguration": "code scoring_script",
    "CustomInferencingServer": "* inference_configuration",
    "Data": "* name version description tags properties path type",
    "DataAsset": "* data_id name path version",
    "DataCollector": "collections * rolling_rate sampling_rate request_logging",
    "DefaultScaleSettings": "",
    "DeploymentCollection": "* enabled data client_id",
    "Environment": "* name version description image build conda_file tags properties datastore",
    "IdentityConfiguration": "* type user_assigned_identities principal_id tenant_id",
    "KubernetesOnlineDeployment": (
        "* name endpoint_name tags properties description model code_configuration environment app_insights_enabled "
        "scale_settings request_settings liveness_probe readiness_probe environment_variables resources "
        "instance_count instance_type code_path scoring_script"
    ),
    "KubernetesOnlineEndpoint": (
        "* name tags properties auth_mode description location traffic mirror_traffic compute identity kind"
    ),
    "ManagedIdentityConfiguration": "* client_id resource_id object_id principal_id",
    "ManagedOnlineDeployment": (
        "* name endpoint_name tags properties description model code_configuration environment app_insights_enabled "
        "scale_settings request_settings liveness_probe readiness_probe environment_variables instance_type "
        "instance_count egress_public_network_access code_path scoring_script data_collector model_mount_path "
        "private_network_connection package_model with_package"
    ),
    "ManagedOnlineEndpoint": (
        "* name tags properties auth_mode description location traffic mirror_traffic identity kind "
        "public_network_access id scoring_uri openapi_uri provisioning_state"
    ),
    "Model": (
        "* name version type path utc_time_created flavors description tags properties stage "
        "default_deployment_template allowed_deployment_templates datastore job_name"
    ),
    "ModelConfiguration": "* mode mount_path",
    "ModelPackage": (
        "* target_environment inferencing_server base_environment_source environment_variables inputs "
        "model_configuration tags"
    ),
    "ModelPackageInput": "* type path mode mount_path",
    "OnlineRequestSettings": "max_concurrent_requests_per_instance request_timeout_ms max_queue_wait_ms",
    "PackageInputPathId": "* input_path_type resource_id",
    "PackageInputPathUrl": "* input_path_type url",
    "PackageInputPathVersion": "* input_path_type resource_name resource_version",
    "ProbeSettings": "* failure_threshold success_threshold timeout period initial_delay",
    "RequestLogging": "* capture_headers",
    "ResourceRequirementsSettings": "requests limits",
    "ResourceSettings": "cpu memory gpu",
    "Route": "* port path",
    "TritonInferencingServer": "* inference_configuration",
    "TargetUtilizationScaleSettings": "* min_instances max_instances polling_interval target_utilization_percentage",
}

READ = {
    "EndpointAadToken": "access_token expiry_time_utc",
    "EndpointAuthKeys": "primary_key secondary_key",
    "EndpointAuthToken": "access_token expiry_time_utc refresh_after_time_utc token_type",
    "IdentityConfiguration": "principal_id tenant_id",
    "ManagedOnlineDeployment": "id type provisioning_state creation_context code_path scoring_script",
    "ManagedOnlineEndpoint": "id kind provisioning_state scoring_uri openapi_uri creation_context",
    "Model": "id creation_context",
    "Workspace": (
        "name description tags display_name location resource_group hbi_workspace storage_account container_registry "
        "key_vault application_insights image_build_compute public_network_access identity "
        "primary_user_assigned_identity discovery_url mlflow_tracking_uri id creation_context"
    ),
}
"""What code reads of what a service answered."""

NAMED = {"KubernetesOnlineDeployment", "KubernetesOnlineEndpoint", "ManagedOnlineDeployment", "ManagedOnlineEndpoint"}


def example(name):
    values = {"name": "tides"} if name in NAMED else {}
    return getattr(entities, name)(**values)


@pytest.mark.parametrize("name", AZURE)
def test_constructors_take_what_azures_take(name):
    first, _, rest = AZURE[name].partition("*")
    taken = inspect.signature(getattr(entities, name)).parameters
    assert {*first.split(), *rest.split()} <= set(taken)
    by_place = [each.name for each in taken.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert by_place[: len(first.split())] == first.split()


@pytest.mark.parametrize("name", READ)
def test_what_code_reads_is_there(name):
    entity = example(name)
    for attribute in READ[name].split():
        getattr(entity, attribute)


@pytest.mark.parametrize("name", sorted({*AZURE, *READ}))
def test_fields_are_attributes_and_may_be_assigned(name):
    entity = example(name)
    for attribute, spec, _ in type(entity).fields():
        value = getattr(entity, attribute.name)
        if not spec.owned:
            setattr(entity, attribute.name, value)
    assert entity == attrs.evolve(entity)


def test_endpoints_and_deployments_are_known_by_azures_base_names():
    assert isinstance(example("ManagedOnlineEndpoint"), entities.Endpoint)
    assert isinstance(example("KubernetesOnlineDeployment"), entities.Deployment)
    assert (example("ManagedOnlineDeployment").type, example("KubernetesOnlineDeployment").type) == (
        "managed",
        "kubernetes",
    )


@pytest.mark.parametrize("spelling", ["package_model", "with_package"])
def test_packaging_may_be_said_in_either_spelling(spelling):
    deployment = entities.ManagedOnlineDeployment(name="blue", **{spelling: True})
    assert (deployment.package_model, deployment.with_package) == (True, None)
    assert "package" not in str(deployment.dump())
