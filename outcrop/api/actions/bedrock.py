"""Actions on jobs, models, throughputs and deployments.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon Bedrock".
"""

from collections.abc import Mapping
from typing import Any, Final

from outcrop.api.actions.need import Need, Target, Values, every, tag_keys, tag_values


def _known(target: Target, identifier: str, found: Any, kind: str) -> str:
    """The ARN of what was found; else the identifier where it is an ARN itself, or one made of the name."""
    if found is not None:
        return str(found.arn)
    return identifier if identifier.startswith("arn:") else target.arn("bedrock", f"{kind}/{identifier}")


def any_job(target: Target) -> str:
    """A job that is not there yet; AWS's refusals write it so."""
    return target.arn("bedrock", "model-customization-job/*")


def job(target: Target) -> str:
    """The customization job, by name or ARN."""
    identifier = target.params["jobIdentifier"]
    return _known(target, identifier, target.store.jobs.find(target.region, identifier), "model-customization-job")


def _model(target: Target, identifier: str) -> str:
    """A custom model by name or ARN; what is none is a foundation model."""
    found = target.store.models.find(target.region, identifier)
    if found is not None or identifier.startswith("arn:"):
        return _known(target, identifier, found, "custom-model")
    return target.arn("bedrock", f"foundation-model/{identifier}", account="")


def custom_model(target: Target) -> str:
    """The custom model, by name or ARN."""
    identifier = target.params["modelIdentifier"]
    return _known(target, identifier, target.store.models.find(target.region, identifier), "custom-model")


def foundation_model(target: Target) -> str:
    """The foundation model, by id or ARN."""
    identifier = str(target.params["modelIdentifier"])
    if identifier.startswith("arn:"):
        return identifier
    return target.arn("bedrock", f"foundation-model/{identifier}", account="")


def provisioned_of(target: Target) -> str:
    """The model that throughput is asked for."""
    return _model(target, target.params["modelId"])


def desired_model(target: Target) -> str:
    """The model that a throughput is to change to."""
    return _model(target, target.params["desiredModelId"])


def throughput(target: Target) -> str:
    """The provisioned throughput, by name or ARN."""
    identifier = target.params["provisionedModelId"]
    return _known(target, identifier, target.store.throughputs.find(target.region, identifier), "provisioned-model")


def deployed_model(target: Target) -> str:
    """The custom model that is to be deployed."""
    return _model(target, target.params["modelArn"])


def deployment(target: Target) -> str:
    """The custom model deployment, by name or ARN."""
    identifier = target.params["customModelDeploymentIdentifier"]
    found = target.store.deployments.find(target.region, identifier)
    return _known(target, identifier, found, "custom-model-deployment")


def any_deployment(target: Target) -> str:
    """A deployment that is not there yet."""
    return target.arn("bedrock", "custom-model-deployment/*")


def any_throughput(target: Target) -> str:
    """A throughput that is not there yet."""
    return target.arn("bedrock", "provisioned-model/*")


def invoked(target: Target) -> str:
    """What an inference call names: an ARN, a throughput's name, or a model's id."""
    identifier = target.params["modelId"]
    throughput = target.store.throughputs.find(target.region, identifier)
    return throughput.arn if throughput is not None else _model(target, identifier)


def tagged(target: Target) -> str:
    """The resource of a tag operation."""
    return str(target.params["resourceARN"])


def passed_role(target: Target) -> str:
    """The role that a job is to run with."""
    return str(target.params["roleArn"])


def to_bedrock(_target: Target) -> Values:
    """Whom the role is passed to."""
    return {"iam:PassedToService": "bedrock.amazonaws.com"}


def bedrock_tags(target: Target) -> Values:
    """aws:RequestTag/… and aws:TagKeys of all tags that come with a request."""
    params = target.params
    tags = [tag for name in ("tags", "jobTags", "customModelTags") for tag in params.get(name) or ()]
    return tag_values(tags, "key", "value")


BEDROCK: Final[Mapping[str, tuple[Need, ...]]] = {
    "CreateModelCustomizationJob": (
        Need("bedrock:CreateModelCustomizationJob", any_job, bedrock_tags),
        Need("iam:PassRole", passed_role, to_bedrock),
        Need("bedrock:TagResource", any_job, bedrock_tags, when="jobTags"),
        Need("bedrock:TagResource", any_job, bedrock_tags, when="customModelTags"),
    ),
    "GetModelCustomizationJob": (Need("bedrock:GetModelCustomizationJob", job),),
    "ListModelCustomizationJobs": (Need("bedrock:ListModelCustomizationJobs", every),),
    "StopModelCustomizationJob": (Need("bedrock:StopModelCustomizationJob", job),),
    "GetCustomModel": (Need("bedrock:GetCustomModel", custom_model),),
    "ListCustomModels": (Need("bedrock:ListCustomModels", every),),
    "DeleteCustomModel": (Need("bedrock:DeleteCustomModel", custom_model),),
    "GetFoundationModel": (Need("bedrock:GetFoundationModel", foundation_model),),
    "ListFoundationModels": (Need("bedrock:ListFoundationModels", every),),
    "CreateProvisionedModelThroughput": (
        Need("bedrock:CreateProvisionedModelThroughput", provisioned_of, bedrock_tags),
        Need("bedrock:TagResource", any_throughput, bedrock_tags, when="tags"),
    ),
    "GetProvisionedModelThroughput": (Need("bedrock:GetProvisionedModelThroughput", throughput),),
    "ListProvisionedModelThroughputs": (Need("bedrock:ListProvisionedModelThroughputs", every),),
    "UpdateProvisionedModelThroughput": (
        Need("bedrock:UpdateProvisionedModelThroughput", throughput),
        Need("bedrock:UpdateProvisionedModelThroughput", desired_model, when="desiredModelId"),
    ),
    "DeleteProvisionedModelThroughput": (Need("bedrock:DeleteProvisionedModelThroughput", throughput),),
    "CreateCustomModelDeployment": (
        Need("bedrock:CreateCustomModelDeployment", deployed_model, bedrock_tags),
        Need("bedrock:TagResource", any_deployment, bedrock_tags, when="tags"),
    ),
    "GetCustomModelDeployment": (Need("bedrock:GetCustomModelDeployment", deployment),),
    "ListCustomModelDeployments": (Need("bedrock:ListCustomModelDeployments", every),),
    "UpdateCustomModelDeployment": (
        Need("bedrock:UpdateCustomModelDeployment", deployment),
        Need("bedrock:UpdateCustomModelDeployment", deployed_model),
    ),
    "DeleteCustomModelDeployment": (Need("bedrock:DeleteCustomModelDeployment", deployment),),
    "TagResource": (Need("bedrock:TagResource", tagged, bedrock_tags),),
    "UntagResource": (Need("bedrock:UntagResource", tagged, tag_keys),),
    "ListTagsForResource": (Need("bedrock:ListTagsForResource", tagged),),
}
BEDROCK_RUNTIME: Final[Mapping[str, tuple[Need, ...]]] = {
    "InvokeModel": (Need("bedrock:InvokeModel", invoked),),
    "InvokeModelWithResponseStream": (Need("bedrock:InvokeModelWithResponseStream", invoked),),
    "Converse": (Need("bedrock:InvokeModel", invoked),),
    "ConverseStream": (Need("bedrock:InvokeModelWithResponseStream", invoked),),
    "CountTokens": (Need("bedrock:CountTokens", invoked),),
}
