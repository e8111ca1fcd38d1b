"""Which IAM action an operation is, and on which resource: the literal table behind admission.

Knows AWS's names only; who may do what is `identity`'s. Source: Service Authorization Reference, "Actions, resources,
and condition keys" for Amazon S3, Amazon Bedrock and IAM.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from outcrop.records import Arn
from outcrop.store.roles import Role
from outcrop.store.store import Store


@dataclass(frozen=True, slots=True)
class Target:
    """One request, as far as its resource is concerned."""

    params: Mapping[str, Any]
    region: str
    account: str
    store: Store

    def arn(self, service: str, resource: str, *, region: str | None = None, account: str | None = None) -> str:
        """An ARN of this request's region and account, unless others are given."""
        place = self.region if region is None else region
        return str(Arn(service, place, self.account if account is None else account, resource))


Finder = Callable[[Target], str]
Values = Mapping[str, str | Sequence[str]]


def nothing(_target: Target) -> Values:
    """No condition keys of its own."""
    return {}


@dataclass(frozen=True, slots=True)
class Need:
    """One permission that an operation needs."""

    action: str
    on: Finder
    given: Callable[[Target], Values] = nothing
    """The operation's own condition keys."""
    when: str | None = None
    """Needed only where the request has this member."""


# S3: buckets and objects


def every(_target: Target) -> str:
    """Actions that name no resource."""
    return "*"


def all_buckets(_target: Target) -> str:
    """What ListAllMyBuckets is asked for."""
    return "arn:aws:s3:::*"


def bucket(target: Target) -> str:
    """The bucket."""
    return f"arn:aws:s3:::{target.params['Bucket']}"


def entry(target: Target) -> str:
    """The object."""
    return f"arn:aws:s3:::{target.params['Bucket']}/{target.params['Key']}"


def listing(target: Target) -> Values:
    """s3:prefix, s3:delimiter, s3:max-keys, as far as they were sent."""
    members = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter", "s3:max-keys": "MaxKeys"}
    return {key: str(target.params[name]) for key, name in members.items() if target.params.get(name) is not None}


def location(target: Target) -> Values:
    """s3:LocationConstraint of a new bucket."""
    constraint = (target.params.get("CreateBucketConfiguration") or {}).get("LocationConstraint")
    return {"s3:LocationConstraint": constraint} if constraint else {}


def object_tags(target: Target) -> Values:
    """s3:RequestObjectTag/… of tags that come with an object: in a header (text) or as TagSet."""
    tagging = target.params.get("Tagging") or {}
    if isinstance(tagging, str):
        pairs = dict(parse_qsl(tagging, keep_blank_values=True))
    else:
        pairs = {tag["Key"]: tag["Value"] for tag in tagging.get("TagSet", [])}
    if not pairs:
        return {}
    return {f"s3:RequestObjectTag/{key}": value for key, value in pairs.items()} | {
        "s3:RequestObjectTagKeys": list(pairs)
    }


def _bucket_needs(**actions: str) -> dict[str, tuple[Need, ...]]:
    """Operations that need one action on the bucket."""
    return {operation: (Need(action, bucket),) for operation, action in actions.items()}


LIST_BUCKET: Final = (Need("s3:ListBucket", bucket, listing),)
PUT_OBJECT: Final = (
    Need("s3:PutObject", entry, object_tags),
    Need("s3:PutObjectTagging", entry, object_tags, when="Tagging"),
    Need("s3:PutObjectAcl", entry, when="ACL"),
)
S3: Final[Mapping[str, tuple[Need, ...]]] = {
    "ListBuckets": (Need("s3:ListAllMyBuckets", all_buckets),),
    "CreateBucket": (Need("s3:CreateBucket", bucket, location),),
    "HeadBucket": LIST_BUCKET,
    "ListObjects": LIST_BUCKET,
    "ListObjectsV2": LIST_BUCKET,
    "ListObjectVersions": (Need("s3:ListBucketVersions", bucket, listing),),
    "ListMultipartUploads": (Need("s3:ListBucketMultipartUploads", bucket, listing),),
    "GetObject": (Need("s3:GetObject", entry),),
    "HeadObject": (Need("s3:GetObject", entry),),
    "GetObjectAttributes": (Need("s3:GetObject", entry), Need("s3:GetObjectAttributes", entry)),
    "GetObjectAcl": (Need("s3:GetObjectAcl", entry),),
    "GetObjectTagging": (Need("s3:GetObjectTagging", entry),),
    "GetObjectLegalHold": (Need("s3:GetObjectLegalHold", entry),),
    "GetObjectRetention": (Need("s3:GetObjectRetention", entry),),
    "PutObject": PUT_OBJECT,
    # The source of a copy is another object, whose reading the operation itself asks for.
    "CopyObject": PUT_OBJECT,
    "CreateMultipartUpload": PUT_OBJECT,
    "UploadPart": (Need("s3:PutObject", entry),),
    "UploadPartCopy": (Need("s3:PutObject", entry),),
    "CompleteMultipartUpload": (Need("s3:PutObject", entry),),
    "AbortMultipartUpload": (Need("s3:AbortMultipartUpload", entry),),
    "ListParts": (Need("s3:ListMultipartUploadParts", entry),),
    "PutObjectAcl": (Need("s3:PutObjectAcl", entry),),
    "PutObjectTagging": (Need("s3:PutObjectTagging", entry, object_tags),),
    "DeleteObjectTagging": (Need("s3:DeleteObjectTagging", entry),),
    "DeleteObject": (Need("s3:DeleteObject", entry),),
    # Each key has an answer of its own, so the operation asks for each.
    "DeleteObjects": (),
    **_bucket_needs(
        DeleteBucket="s3:DeleteBucket",
        GetBucketLocation="s3:GetBucketLocation",
        GetBucketPolicy="s3:GetBucketPolicy",
        PutBucketPolicy="s3:PutBucketPolicy",
        DeleteBucketPolicy="s3:DeleteBucketPolicy",
        GetBucketPolicyStatus="s3:GetBucketPolicyStatus",
        GetBucketTagging="s3:GetBucketTagging",
        PutBucketTagging="s3:PutBucketTagging",
        DeleteBucketTagging="s3:PutBucketTagging",
        GetPublicAccessBlock="s3:GetBucketPublicAccessBlock",
        PutPublicAccessBlock="s3:PutBucketPublicAccessBlock",
        DeletePublicAccessBlock="s3:PutBucketPublicAccessBlock",
        GetBucketAcl="s3:GetBucketAcl",
        PutBucketAcl="s3:PutBucketAcl",
        GetBucketVersioning="s3:GetBucketVersioning",
        PutBucketVersioning="s3:PutBucketVersioning",
        GetBucketCors="s3:GetBucketCORS",
        PutBucketCors="s3:PutBucketCORS",
        DeleteBucketCors="s3:PutBucketCORS",
        GetBucketEncryption="s3:GetEncryptionConfiguration",
        PutBucketEncryption="s3:PutEncryptionConfiguration",
        DeleteBucketEncryption="s3:PutEncryptionConfiguration",
        GetBucketLifecycle="s3:GetLifecycleConfiguration",
        GetBucketLifecycleConfiguration="s3:GetLifecycleConfiguration",
        PutBucketLifecycleConfiguration="s3:PutLifecycleConfiguration",
        DeleteBucketLifecycle="s3:PutLifecycleConfiguration",
        GetBucketLogging="s3:GetBucketLogging",
        GetBucketWebsite="s3:GetBucketWebsite",
        DeleteBucketWebsite="s3:DeleteBucketWebsite",
        GetBucketReplication="s3:GetReplicationConfiguration",
        DeleteBucketReplication="s3:PutReplicationConfiguration",
        GetBucketRequestPayment="s3:GetBucketRequestPayment",
        GetBucketAccelerateConfiguration="s3:GetAccelerateConfiguration",
        GetObjectLockConfiguration="s3:GetBucketObjectLockConfiguration",
        GetBucketOwnershipControls="s3:GetBucketOwnershipControls",
        PutBucketOwnershipControls="s3:PutBucketOwnershipControls",
        DeleteBucketOwnershipControls="s3:PutBucketOwnershipControls",
        GetBucketNotification="s3:GetBucketNotification",
        GetBucketNotificationConfiguration="s3:GetBucketNotification",
        PutBucketNotificationConfiguration="s3:PutBucketNotification",
        GetBucketAnalyticsConfiguration="s3:GetAnalyticsConfiguration",
        ListBucketAnalyticsConfigurations="s3:GetAnalyticsConfiguration",
        GetBucketIntelligentTieringConfiguration="s3:GetIntelligentTieringConfiguration",
        ListBucketIntelligentTieringConfigurations="s3:GetIntelligentTieringConfiguration",
        GetBucketInventoryConfiguration="s3:GetInventoryConfiguration",
        ListBucketInventoryConfigurations="s3:GetInventoryConfiguration",
        GetBucketMetricsConfiguration="s3:GetMetricsConfiguration",
        ListBucketMetricsConfigurations="s3:GetMetricsConfiguration",
    ),
}


# Bedrock: jobs, models, throughputs, deployments


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


def _tag_values(tags: Sequence[Mapping[str, str]], key: str, value: str) -> Values:
    if not tags:
        return {}
    return {f"aws:RequestTag/{tag[key]}": tag[value] for tag in tags} | {"aws:TagKeys": [tag[key] for tag in tags]}


def bedrock_tags(target: Target) -> Values:
    """aws:RequestTag/… and aws:TagKeys of all tags that come with a request."""
    params = target.params
    tags = [tag for name in ("tags", "jobTags", "customModelTags") for tag in params.get(name) or ()]
    return _tag_values(tags, "key", "value")


def tag_keys(target: Target) -> Values:
    """aws:TagKeys of tags that are to go."""
    return {"aws:TagKeys": list(target.params.get("tagKeys") or target.params.get("TagKeys") or ())}


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


# IAM and STS


def role_like(target: Target) -> str:
    """The role of that name, or the one that is to be made."""
    name = target.params["RoleName"]
    found: Role | None = target.store.access.roles.find(name)
    if found is not None:
        return found.arn
    return target.arn("iam", f"role{target.params.get('Path') or '/'}{name}", region="")


def all_roles(target: Target) -> str:
    """What ListRoles is asked for."""
    return target.arn("iam", "role/", region="")


def policy(target: Target) -> str:
    """The managed policy."""
    return str(target.params["PolicyArn"])


def new_policy(target: Target) -> str:
    """The managed policy that is to be made."""
    return target.arn("iam", f"policy{target.params.get('Path') or '/'}{target.params['PolicyName']}", region="")


def all_policies(target: Target) -> str:
    """What ListPolicies is asked for."""
    return target.arn("iam", "policy/", region="")


def user(target: Target) -> str:
    """The user; without a name, the caller's."""
    return target.arn("iam", f"user/{target.params.get('UserName') or '*'}", region="")


def attached_policy(target: Target) -> Values:
    """Which policy is attached or detached."""
    return {"iam:PolicyARN": target.params["PolicyArn"]}


def boundary(target: Target) -> Values:
    """The boundary and the tags of a new role."""
    found = target.params.get("PermissionsBoundary")
    return ({"iam:PermissionsBoundary": found} if found else {}) | dict(iam_tags(target))


def iam_tags(target: Target) -> Values:
    """aws:RequestTag/… and aws:TagKeys."""
    return _tag_values(target.params.get("Tags") or (), "Key", "Value")


def _role_needs(*operations: str) -> dict[str, tuple[Need, ...]]:
    """Operations on a role that are actions of the same name."""
    return {operation: (Need(f"iam:{operation}", role_like),) for operation in operations}


def _policy_needs(*operations: str) -> dict[str, tuple[Need, ...]]:
    """Operations on a managed policy that are actions of the same name."""
    return {operation: (Need(f"iam:{operation}", policy),) for operation in operations}


IAM: Final[Mapping[str, tuple[Need, ...]]] = {
    "CreateRole": (
        Need("iam:CreateRole", role_like, boundary),
        Need("iam:TagRole", role_like, iam_tags, when="Tags"),
    ),
    "ListRoles": (Need("iam:ListRoles", all_roles),),
    "UpdateRoleDescription": (Need("iam:UpdateRoleDescription", role_like),),
    "AttachRolePolicy": (Need("iam:AttachRolePolicy", role_like, attached_policy),),
    "DetachRolePolicy": (Need("iam:DetachRolePolicy", role_like, attached_policy),),
    "PutRolePermissionsBoundary": (Need("iam:PutRolePermissionsBoundary", role_like, boundary),),
    "TagRole": (Need("iam:TagRole", role_like, iam_tags),),
    "UntagRole": (Need("iam:UntagRole", role_like, tag_keys),),
    **_role_needs("GetRole", "DeleteRole", "UpdateRole", "UpdateAssumeRolePolicy", "DeleteRolePermissionsBoundary"),
    **_role_needs("PutRolePolicy", "GetRolePolicy", "DeleteRolePolicy", "ListRolePolicies"),
    **_role_needs("ListAttachedRolePolicies", "ListRoleTags", "ListInstanceProfilesForRole"),
    "CreatePolicy": (
        Need("iam:CreatePolicy", new_policy, iam_tags),
        Need("iam:TagPolicy", new_policy, iam_tags, when="Tags"),
    ),
    "ListPolicies": (Need("iam:ListPolicies", all_policies),),
    "TagPolicy": (Need("iam:TagPolicy", policy, iam_tags),),
    "UntagPolicy": (Need("iam:UntagPolicy", policy, tag_keys),),
    **_policy_needs("GetPolicy", "DeletePolicy", "ListEntitiesForPolicy", "ListPolicyTags"),
    **_policy_needs("CreatePolicyVersion", "GetPolicyVersion", "DeletePolicyVersion", "ListPolicyVersions"),
    **_policy_needs("SetDefaultPolicyVersion"),
    "GetUser": (Need("iam:GetUser", user),),
}
STS: Final[Mapping[str, tuple[Need, ...]]] = {
    # Anybody with a key may ask who they are, and GetSessionToken gives no right that the caller has not.
    "GetCallerIdentity": (),
    "GetSessionToken": (),
    # Whom a role trusts is the role's own document, which the operation asks.
    "AssumeRole": (),
}

TABLE: Final[Mapping[str, Mapping[str, tuple[Need, ...]]]] = {
    "bedrock": BEDROCK,
    "bedrock-runtime": BEDROCK_RUNTIME,
    "iam": IAM,
    "s3": S3,
    "sts": STS,
}
