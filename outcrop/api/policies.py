"""IAM's managed policies, the account's and AWS's: made, looked at, versioned, tagged, deleted.

Knows the call and the store. AWS's own (arn:aws:iam::aws:policy/…) can be read and attached, and changed by nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from outcrop.api import iam_faults as faults
from outcrop.api.call import Call
from outcrop.api.iam_pages import MOST_TAGS, page, read_tags, tag_list
from outcrop.api.roles import check_document
from outcrop.identity import unique_id
from outcrop.policy.managed import AwsPolicy
from outcrop.records import Arn
from outcrop.store.policies import NoPolicy, Policy, PolicyInUse, Version
from outcrop.store.roles import TooMuch, size

Params = Mapping[str, Any]
Answer = Mapping[str, Any]

# Quotas: IAM User Guide, "IAM and AWS STS quotas".
POLICY_SIZE: Final = 6144
"""Characters but white space."""
MOST_VERSIONS: Final = 5


@dataclass(frozen=True, slots=True)
class Usage:
    """How many roles use each policy."""

    attached: Mapping[str, int]
    bounding: Mapping[str, int]

    @classmethod
    def of(cls, call: Call) -> "Usage":
        """As the store has it now."""
        roles = call.rooms.store.access.roles
        return cls(attached=roles.attachment_counts(), bounding=roles.boundary_counts())

    def show(self, arn: str) -> dict[str, Any]:
        """The members that tell it."""
        return {
            "AttachmentCount": self.attached.get(arn, 0),
            "PermissionsBoundaryUsageCount": self.bounding.get(arn, 0),
            "IsAttachable": True,
        }


def show(policy: Policy | AwsPolicy, usage: Usage, *, whole: bool = True) -> dict[str, Any]:
    """A policy as IAM tells it; lists leave out description and tags."""
    members: dict[str, Any] = {"PolicyName": policy.name, "Arn": policy.arn, **usage.show(policy.arn)}
    if isinstance(policy, AwsPolicy):
        members |= {"Path": "/", "DefaultVersionId": policy.version, "UpdateDate": policy.created}
        return members | ({"PolicyId": policy.id} if policy.id is not None else {})
    members |= {
        "PolicyId": policy.id,
        "Path": policy.path,
        "DefaultVersionId": policy.default,
        "CreateDate": policy.created,
        "UpdateDate": policy.updated,
    }
    if whole and policy.description is not None:
        members["Description"] = policy.description
    if whole and policy.tags:
        members["Tags"] = tag_list(policy.tags)
    return members


def existing(call: Call, arn: str) -> Policy | AwsPolicy:
    """The policy of that ARN, AWS's or the account's; NoSuchEntity where there is none."""
    found = call.rooms.identity.aws_policies.get(arn)
    if found is not None:
        return found
    try:
        return call.rooms.store.access.policies.find(arn)
    except NoPolicy as error:
        raise faults.no_policy(arn) from error


def own(call: Call, operation: str, arn: str) -> None:
    """Refuse to change one of AWS's policies, as IAM does even to administrators."""
    if arn in call.rooms.identity.aws_policies:
        raise call.denied(f"iam:{operation}", f"policy {arn}")


def create_policy(call: Call, params: Params) -> Answer:
    """CreatePolicy."""
    name, path, document = params["PolicyName"], params.get("Path") or "/", params["PolicyDocument"]
    check_size(document)
    now = call.rooms.now()
    policy = Policy(
        arn=str(Arn(service="iam", region="", account=call.rooms.account, resource=f"policy{path}{name}")),
        name=name,
        id=unique_id("ANPA"),
        path=path,
        created=now,
        updated=now,
        description=params.get("Description"),
        tags=read_tags(params.get("Tags") or ()),
    )
    if not call.rooms.store.access.policies.add(policy, document):
        raise faults.policy_exists(name)
    return {"Policy": show(policy, Usage({}, {}))}


def check_size(document: str) -> None:
    """Refuse a document that is malformed or too long for a managed policy."""
    check_document(document, "identity")
    if size(document) > POLICY_SIZE:
        raise faults.limit(f"Cannot exceed quota for PolicySize: {POLICY_SIZE}. The document has {size(document)}.")


def get_policy(call: Call, params: Params) -> Answer:
    """GetPolicy."""
    return {"Policy": show(existing(call, params["PolicyArn"]), Usage.of(call))}


def list_policies(call: Call, params: Params) -> Answer:
    """ListPolicies: by scope, path, and whether and how they are used."""
    usage = Usage.of(call)
    scope, prefix = params.get("Scope") or "All", params.get("PathPrefix") or "/"
    found: list[Policy | AwsPolicy] = []
    if scope in ("All", "Local"):
        found += [policy for policy in call.rooms.store.access.policies.all() if policy.path.startswith(prefix)]
    if scope in ("All", "AWS") and prefix == "/":
        found += call.rooms.identity.aws_policies.values()
    wanted = params.get("PolicyUsageFilter")
    if wanted == "PermissionsPolicy":
        found = [policy for policy in found if policy.arn in usage.attached]
    elif wanted == "PermissionsBoundary":
        found = [policy for policy in found if policy.arn in usage.bounding]
    if params.get("OnlyAttached"):
        found = [policy for policy in found if policy.arn in usage.attached or policy.arn in usage.bounding]
    found.sort(key=_place)
    return page(params, found, _place, "Policies", lambda policy: show(policy, usage, whole=False))


def _place(policy: Policy | AwsPolicy) -> str:
    """Where a policy stands in lists: by name, then by ARN (AWS's and the account's may have one name)."""
    return f"{policy.name.lower()} {policy.arn}"


def delete_policy(call: Call, params: Params) -> Answer:
    """DeletePolicy."""
    arn = params["PolicyArn"]
    own(call, "DeletePolicy", arn)
    try:
        call.rooms.store.access.policies.delete(arn)
    except NoPolicy as error:
        raise faults.no_policy(arn) from error
    except PolicyInUse as error:
        raise faults.conflict(str(error)) from error
    return {}


def _versions(call: Call, arn: str) -> tuple[Sequence[Version], str]:
    """All versions, newest first, and the default one's id."""
    policy = existing(call, arn)
    if isinstance(policy, AwsPolicy):
        return [Version(policy.version, policy.document, policy.created)], policy.version
    return call.rooms.store.access.policies.versions(arn), policy.default


def _show_version(version: Version, default: str, *, document: bool = False) -> dict[str, Any]:
    members = {
        "VersionId": version.id,
        "IsDefaultVersion": version.id == default,
        "CreateDate": version.created,
    }
    return members | ({"Document": quote(version.document, safe="")} if document else {})


def create_policy_version(call: Call, params: Params) -> Answer:
    """CreatePolicyVersion."""
    arn, default = params["PolicyArn"], bool(params.get("SetAsDefault"))
    own(call, "CreatePolicyVersion", arn)
    policy = existing(call, arn)
    check_size(params["PolicyDocument"])
    try:
        version = call.rooms.store.access.policies.add_version(
            arn, params["PolicyDocument"], call.rooms.now(), default=default, most=MOST_VERSIONS
        )
    except NoPolicy as error:
        raise faults.no_policy(arn) from error
    except TooMuch as error:
        raise faults.limit(
            f"A managed policy can have up to {MOST_VERSIONS} versions. Before you create a new version, you must "
            "delete an existing version."
        ) from error
    chosen = version.id if default or isinstance(policy, AwsPolicy) else policy.default
    return {"PolicyVersion": _show_version(version, chosen)}


def get_policy_version(call: Call, params: Params) -> Answer:
    """GetPolicyVersion."""
    versions, default = _versions(call, params["PolicyArn"])
    for version in versions:
        if version.id == params["VersionId"]:
            return {"PolicyVersion": _show_version(version, default, document=True)}
    raise faults.no_version(params["PolicyArn"], params["VersionId"])


def list_policy_versions(call: Call, params: Params) -> Answer:
    """ListPolicyVersions: newest first; there are five at most."""
    versions, default = _versions(call, params["PolicyArn"])
    # Markers count upwards while versions count downwards: their places in the list serve as keys.
    places = [(f"{place:02}", version) for place, version in enumerate(versions)]
    return page(params, places, lambda item: item[0], "Versions", lambda item: _show_version(item[1], default))


def delete_policy_version(call: Call, params: Params) -> Answer:
    """DeletePolicyVersion."""
    arn = params["PolicyArn"]
    own(call, "DeletePolicyVersion", arn)
    existing(call, arn)
    try:
        call.rooms.store.access.policies.delete_version(arn, params["VersionId"])
    except NoPolicy as error:
        raise faults.no_version(arn, params["VersionId"]) from error
    except PolicyInUse as error:
        raise faults.conflict(str(error)) from error
    return {}


def set_default_policy_version(call: Call, params: Params) -> Answer:
    """SetDefaultPolicyVersion."""
    arn = params["PolicyArn"]
    own(call, "SetDefaultPolicyVersion", arn)
    existing(call, arn)
    try:
        call.rooms.store.access.policies.set_default(arn, params["VersionId"], call.rooms.now())
    except NoPolicy as error:
        raise faults.no_version(arn, params["VersionId"]) from error
    return {}


def list_entities_for_policy(call: Call, params: Params) -> Answer:
    """ListEntitiesForPolicy: roles only, as there are no groups, and the one user has no policies."""
    arn = existing(call, params["PolicyArn"]).arn
    roles = call.rooms.store.access.roles.with_policy(arn)
    prefix, kind = params.get("PathPrefix") or "/", params.get("EntityFilter") or "Role"
    chosen = [role for role in roles if kind == "Role" and role.path.startswith(prefix)]
    answer = page(
        params,
        chosen,
        lambda role: role.name.lower(),
        "PolicyRoles",
        lambda role: {"RoleName": role.name, "RoleId": role.id},
    )
    return {"PolicyGroups": [], "PolicyUsers": [], **answer}


def tag_policy(call: Call, params: Params) -> Answer:
    """TagPolicy."""
    return _tag(call, "TagPolicy", params["PolicyArn"], read_tags(params["Tags"]), ())


def untag_policy(call: Call, params: Params) -> Answer:
    """UntagPolicy."""
    return _tag(call, "UntagPolicy", params["PolicyArn"], {}, params["TagKeys"])


def _tag(call: Call, operation: str, arn: str, add: Mapping[str, str], remove: Sequence[str]) -> Answer:
    own(call, operation, arn)
    try:
        call.rooms.store.access.policies.tag(arn, add, remove, MOST_TAGS)
    except NoPolicy as error:
        raise faults.no_policy(arn) from error
    except TooMuch as error:
        raise faults.limit(f"Cannot exceed quota for TagsPerPolicy: {MOST_TAGS}") from error
    return {}


def list_policy_tags(call: Call, params: Params) -> Answer:
    """ListPolicyTags."""
    policy = existing(call, params["PolicyArn"])
    tags = tag_list({} if isinstance(policy, AwsPolicy) else policy.tags)
    return page(params, tags, lambda tag: tag["Key"], "Tags", dict)
