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
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
