"""Actions on roles, policies and the user, and those of STS.

Source: Service Authorization Reference, "Actions, resources, and condition keys for" IAM and STS.
"""

from collections.abc import Mapping
from typing import Final

from outcrop.api.actions.need import Need, Target, Values, tag_keys, tag_values
from outcrop.store.roles import Role


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
    return tag_values(target.params.get("Tags") or (), "Key", "Value")


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
