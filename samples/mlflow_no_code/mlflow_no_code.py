"""
Deploy an MLflow model: no scoring script, no environment.

The model's folder says how it is loaded and what it needs, so the service makes both.
This is about what is sent and what comes back: the entities are made, stored and read.
"""

import os
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.constants import AssetTypes
from azure.ai.ml.entities import ManagedOnlineDeployment, Model
from azure.identity import DefaultAzureCredential

here = Path(__file__).parent

ml_client = MLClient(
    DefaultAzureCredential(),
    os.environ.get("SUBSCRIPTION_ID", "<SUBSCRIPTION_ID>"),
    os.environ.get("RESOURCE_GROUP", "<RESOURCE_GROUP>"),
    os.environ.get("WORKSPACE_NAME", "<WORKSPACE_NAME>"),
)
name = os.environ.get("ENDPOINT_NAME", "shelf-of-the-shop")

# The folder is uploaded and registered; its files are the model.
model = ml_client.models.create_or_update(
    Model(
        name="shelf",
        version="2",
        path=here / "model",
        type=AssetTypes.MLFLOW_MODEL,
        description="pieces sold in a day, by price and stock",
        flavors={"python_function": {"loader_module": "shelf"}},
    )
)
print(f"model {model.name}:{model.version}, {model.type}, {sorted(model.flavors)}")

endpoint = load_online_endpoint(here / "endpoint.yml", params_override=[{"name": name}])
endpoint = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
try:
    # Blue brings its model along, in its file; green names the one that is registered.
    blue = load_online_deployment(here / "deployment.yml", params_override=[{"endpoint_name": name}])
    blue = ml_client.online_deployments.begin_create_or_update(blue).result()
    green = ManagedOnlineDeployment(
        name="green",
        endpoint_name=name,
        model=f"azureml:{model.name}:{model.version}",
        instance_type="Standard_F4s_v2",
        instance_count=1,
    )
    ml_client.online_deployments.begin_create_or_update(green).result()

    endpoint.traffic = {"blue": 75, "green": 25}
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()

    endpoint = ml_client.online_endpoints.get(name)
    print(f"endpoint: {endpoint.auth_mode}, {endpoint.tags}, {endpoint.traffic}")
    for deployment in sorted(ml_client.online_deployments.list(endpoint_name=name), key=lambda each: each.name):
        said = "no script" if deployment.code_configuration is None else "a script"
        environment = "no environment" if deployment.environment is None else "an environment"
        asset = deployment.model.rpartition("/models/")[2]
        print(f"{deployment.name}: {asset}, {said}, {environment}, {deployment.instance_count} instances")
finally:
    ml_client.online_endpoints.begin_delete(name=name).result()
print("deleted")
