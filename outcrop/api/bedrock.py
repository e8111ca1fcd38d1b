"""The operations of the service bedrock, by their names."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.api.customization import (
    create_model_customization_job,
    get_model_customization_job,
    list_model_customization_jobs,
    stop_model_customization_job,
)
from outcrop.api.deployments import (
    create_custom_model_deployment,
    delete_custom_model_deployment,
    get_custom_model_deployment,
    list_custom_model_deployments,
    update_custom_model_deployment,
)
from outcrop.api.models import (
    delete_custom_model,
    get_custom_model,
    get_foundation_model,
    list_custom_models,
    list_foundation_models,
)
from outcrop.api.tags import list_tags_for_resource, tag_resource, untag_resource
from outcrop.api.throughput import (
    create_provisioned_model_throughput,
    delete_provisioned_model_throughput,
    get_provisioned_model_throughput,
    list_provisioned_model_throughputs,
    update_provisioned_model_throughput,
)
from outcrop.wire.gateway import Reply

OPERATIONS: Final[Mapping[str, Callable[[Call, Mapping[str, Any]], Mapping[str, Any] | Reply]]] = {
    "CreateModelCustomizationJob": create_model_customization_job,
    "GetModelCustomizationJob": get_model_customization_job,
    "ListModelCustomizationJobs": list_model_customization_jobs,
    "StopModelCustomizationJob": stop_model_customization_job,
    "GetCustomModel": get_custom_model,
    "ListCustomModels": list_custom_models,
    "DeleteCustomModel": delete_custom_model,
    "ListFoundationModels": list_foundation_models,
    "GetFoundationModel": get_foundation_model,
    "CreateProvisionedModelThroughput": create_provisioned_model_throughput,
    "GetProvisionedModelThroughput": get_provisioned_model_throughput,
    "ListProvisionedModelThroughputs": list_provisioned_model_throughputs,
    "UpdateProvisionedModelThroughput": update_provisioned_model_throughput,
    "DeleteProvisionedModelThroughput": delete_provisioned_model_throughput,
    "CreateCustomModelDeployment": create_custom_model_deployment,
    "GetCustomModelDeployment": get_custom_model_deployment,
    "ListCustomModelDeployments": list_custom_model_deployments,
    "UpdateCustomModelDeployment": update_custom_model_deployment,
    "DeleteCustomModelDeployment": delete_custom_model_deployment,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
