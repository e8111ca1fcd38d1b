"""IAM's roles: made, looked at, changed, tagged, deleted; their inline policies, attachments and boundary.

Knows the call and the store. What a document means is `policy`'s; who may call was decided before.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from outcrop.api import iam_faults as faults
from outcrop.api.call import Call
from outcrop.api.iam_pages import MOST_TAGS, cut, page, position, read_tags, tag_list
from outcrop.identity import unique_id
from outcrop.policy.document import Kind, MalformedPolicy, read
from outcrop.store.policies import NoPolicy
from outcrop.store.roles import NoRole, Role, RoleInUse, TooMuch, size

Params = Mapping[str, Any]
Answer = Mapping[str, Any]

# Quotas: IAM User Guide, "IAM and AWS STS quotas"; characters but white space.
TRUST_SIZE: Final = 2048
INLINE_SIZE: Final = 10_240
ATTACHED_PER_ROLE: Final = 10
DEFAULT_SESSION: Final = timedelta(hours=1)


def check_document(text: str, kind: Kind) -> None:
    """Refuse a document that breaks the grammar of its kind."""
    try:
        read(text, kind)
    except MalformedPolicy as error:
        raise faults.malformed(str(error)) from error


def check_trust(text: str) -> None:
    """Refuse a trust policy that is malformed or too long."""
    check_document(text, "trust")
    if size(text) > TRUST_SIZE:
        raise faults.limit(f"Cannot exceed quota for ACLSizePerRole: {TRUST_SIZE}. The document has {size(text)}.")


def show(role: Role, *, whole: bool = True) -> dict[str, Any]:
    """A role as IAM tells it, its document percent-encoded as everywhere in IAM; lists leave out tags and boundary."""
    members: dict[str, Any] = {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": role.created,
        "AssumeRolePolicyDocument": quote(role.trust, safe=""),
        "MaxSessionDuration": role.max_session_seconds,
    }
    if role.description is not None:
        members["Description"] = role.description
    if whole and role.tags:
        members["Tags"] = tag_list(role.tags)
    if whole and role.boundary is not None:
        members["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": role.boundary,
        }
    return members


def existing(call: Call, name: str) -> Role:
    """The role of that name; NoSuchEntity where there is none."""
    role = call.rooms.store.access.roles.find(name)
    if role is None:
        raise faults.no_role(name)
    return role


def check_policy_exists(call: Call, arn: str) -> None:
    """Refuse a managed policy that does not exist."""
    if arn in call.rooms.identity.aws_policies:
        return
    try:
        call.rooms.store.access.policies.find(arn)
    except NoPolicy as error:
        raise faults.not_attachable(arn) from error


def create_role(call: Call, params: Params) -> Answer:
    """CreateRole."""
    name, path, trust = params["RoleName"], params.get("Path") or "/", params["AssumeRolePolicyDocument"]
    check_trust(trust)
    boundary = params.get("PermissionsBoundary")
    if boundary is not None:
        check_policy_exists(call, boundary)
    role = Role(
        name=name,
        id=unique_id("AROA"),
        arn=call.rooms.identity.role_arn(name, path),
        path=path,
        trust=trust,
        created=call.rooms.now(),
        description=params.get("Description"),
        max_session_seconds=params.get("MaxSessionDuration") or int(DEFAULT_SESSION.total_seconds()),
        boundary=boundary,
        tags=read_tags(params.get("Tags") or ()),
    )
    if not call.rooms.store.access.roles.add(role):
        raise faults.role_exists(name)
    return {"Role": show(role)}


def get_role(call: Call, params: Params) -> Answer:
    """GetRole."""
    return {"Role": show(existing(call, params["RoleName"]))}


def list_roles(call: Call, params: Params) -> Answer:
    """ListRoles."""
    after, most = position(params)
    roles = call.rooms.store.access.roles.page(params.get("PathPrefix") or "/", after, most + 1)
    return cut(roles, most, lambda role: role.name.lower(), "Roles", lambda role: show(role, whole=False))


def delete_role(call: Call, params: Params) -> Answer:
    """DeleteRole."""
    name = params["RoleName"]
    try:
        call.rooms.store.access.roles.delete(name)
    except NoRole as error:
        raise faults.no_role(name) from error
    except RoleInUse as error:
        raise faults.conflict(f"Cannot delete entity, {error}.") from error
    return {}


def _change(call: Call, name: str, **columns: Any) -> Role:
    try:
        return call.rooms.store.access.roles.change(name, **columns)
    except NoRole as error:
        raise faults.no_role(name) from error


def update_role(call: Call, params: Params) -> Answer:
    """UpdateRole: a duration that is not given goes back to an hour (API reference); the description stays."""
    columns: dict[str, Any] = {
        "max_session_seconds": params.get("MaxSessionDuration") or int(DEFAULT_SESSION.total_seconds())
    }
    if "Description" in params:
        columns["description"] = params["Description"]
    _change(call, params["RoleName"], **columns)
    return {}


def update_role_description(call: Call, params: Params) -> Answer:
    """UpdateRoleDescription."""
    return {"Role": show(_change(call, params["RoleName"], description=params["Description"]))}


def update_assume_role_policy(call: Call, params: Params) -> Answer:
    """UpdateAssumeRolePolicy."""
    existing(call, params["RoleName"])
    check_trust(params["PolicyDocument"])
    _change(call, params["RoleName"], trust=params["PolicyDocument"])
    return {}


def put_role_permissions_boundary(call: Call, params: Params) -> Answer:
    """PutRolePermissionsBoundary."""
    check_policy_exists(call, params["PermissionsBoundary"])
    _change(call, params["RoleName"], boundary=params["PermissionsBoundary"])
    return {}


def delete_role_permissions_boundary(call: Call, params: Params) -> Answer:
    """DeleteRolePermissionsBoundary."""
    _change(call, params["RoleName"], boundary=None)
    return {}


def put_role_policy(call: Call, params: Params) -> Answer:
    """PutRolePolicy."""
    name, document = params["RoleName"], params["PolicyDocument"]
    existing(call, name)
    check_document(document, "identity")
    try:
        call.rooms.store.access.roles.put_policy(name, params["PolicyName"], document, INLINE_SIZE)
    except NoRole as error:
        raise faults.no_role(name) from error
    except TooMuch as error:
        raise faults.limit(f"Maximum policy size of {INLINE_SIZE} bytes exceeded for role {name}") from error
    return {}


def _inline(call: Call, name: str) -> dict[str, str]:
    try:
        return call.rooms.store.access.roles.policies(name)
    except NoRole as error:
        raise faults.no_role(name) from error


def get_role_policy(call: Call, params: Params) -> Answer:
    """GetRolePolicy."""
    name, policy = params["RoleName"], params["PolicyName"]
    documents = _inline(call, name)
    if policy not in documents:
        raise faults.no_inline_policy(policy)
    return {"RoleName": name, "PolicyName": policy, "PolicyDocument": quote(documents[policy], safe="")}


def delete_role_policy(call: Call, params: Params) -> Answer:
    """DeleteRolePolicy."""
    name, policy = params["RoleName"], params["PolicyName"]
    try:
        gone = call.rooms.store.access.roles.delete_policy(name, policy)
    except NoRole as error:
        raise faults.no_role(name) from error
    if not gone:
        raise faults.no_inline_policy(policy)
    return {}


def list_role_policies(call: Call, params: Params) -> Answer:
    """ListRolePolicies."""
    return page(params, sorted(_inline(call, params["RoleName"])), str, "PolicyNames", str)


def attach_role_policy(call: Call, params: Params) -> Answer:
    """AttachRolePolicy: one of the account's policies, or one of AWS's."""
    name, arn = params["RoleName"], params["PolicyArn"]
    existing(call, name)
    check_policy_exists(call, arn)
    try:
        call.rooms.store.access.roles.attach(name, arn, ATTACHED_PER_ROLE)
    except NoRole as error:
        raise faults.no_role(name) from error
    except TooMuch as error:
        raise faults.limit(f"Cannot exceed quota for PoliciesPerRole: {ATTACHED_PER_ROLE}") from error
    return {}


def detach_role_policy(call: Call, params: Params) -> Answer:
    """DetachRolePolicy."""
    name, arn = params["RoleName"], params["PolicyArn"]
    try:
        gone = call.rooms.store.access.roles.detach(name, arn)
    except NoRole as error:
        raise faults.no_role(name) from error
    if not gone:
        raise faults.not_attached(arn)
    return {}


def list_attached_role_policies(call: Call, params: Params) -> Answer:
    """ListAttachedRolePolicies, by path prefix."""
    try:
        arns = call.rooms.store.access.roles.attached(params["RoleName"])
    except NoRole as error:
        raise faults.no_role(params["RoleName"]) from error
    prefix = params.get("PathPrefix") or "/"
    chosen = [arn for arn in arns if arn.split(":policy", 1)[1].startswith(prefix)]
    return page(
        params, chosen, str, "AttachedPolicies", lambda arn: {"PolicyName": arn.rsplit("/", 1)[1], "PolicyArn": arn}
    )


def tag_role(call: Call, params: Params) -> Answer:
    """TagRole."""
    name, tags = params["RoleName"], read_tags(params["Tags"])
    try:
        call.rooms.store.access.roles.tag(name, tags, (), MOST_TAGS)
    except NoRole as error:
        raise faults.no_role(name) from error
    except TooMuch as error:
        raise faults.limit(f"Cannot exceed quota for TagsPerRole: {MOST_TAGS}") from error
    return {}


def untag_role(call: Call, params: Params) -> Answer:
    """UntagRole."""
    try:
        call.rooms.store.access.roles.tag(params["RoleName"], {}, params["TagKeys"], MOST_TAGS)
    except NoRole as error:
        raise faults.no_role(params["RoleName"]) from error
    return {}


def list_role_tags(call: Call, params: Params) -> Answer:
    """ListRoleTags."""
    tags = tag_list(existing(call, params["RoleName"]).tags)
    return page(params, tags, lambda tag: tag["Key"], "Tags", dict)


def list_instance_profiles_for_role(call: Call, params: Params) -> Answer:
    """ListInstanceProfilesForRole: there are no machines here that could carry one, so the list is truly empty."""
    existing(call, params["RoleName"])
    return {"InstanceProfiles": [], "IsTruncated": False}
