"""The operations of IAM and STS, by their names."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from outcrop.api import access, policies, roles
from outcrop.api.call import Call

Operation = Callable[[Call, Mapping[str, Any]], Mapping[str, Any]]

OPERATIONS_IAM: Final[Mapping[str, Operation]] = {
    "AttachRolePolicy": roles.attach_role_policy,
    "CreatePolicy": policies.create_policy,
    "CreatePolicyVersion": policies.create_policy_version,
    "CreateRole": roles.create_role,
    "DeletePolicy": policies.delete_policy,
    "DeletePolicyVersion": policies.delete_policy_version,
    "DeleteRole": roles.delete_role,
    "DeleteRolePermissionsBoundary": roles.delete_role_permissions_boundary,
    "DeleteRolePolicy": roles.delete_role_policy,
    "DetachRolePolicy": roles.detach_role_policy,
    "GetPolicy": policies.get_policy,
    "GetPolicyVersion": policies.get_policy_version,
    "GetRole": roles.get_role,
    "GetRolePolicy": roles.get_role_policy,
    "GetUser": access.get_user,
    "ListAttachedRolePolicies": roles.list_attached_role_policies,
    "ListEntitiesForPolicy": policies.list_entities_for_policy,
    "ListInstanceProfilesForRole": roles.list_instance_profiles_for_role,
    "ListPolicies": policies.list_policies,
    "ListPolicyTags": policies.list_policy_tags,
    "ListPolicyVersions": policies.list_policy_versions,
    "ListRolePolicies": roles.list_role_policies,
    "ListRoleTags": roles.list_role_tags,
    "ListRoles": roles.list_roles,
    "PutRolePermissionsBoundary": roles.put_role_permissions_boundary,
    "PutRolePolicy": roles.put_role_policy,
    "SetDefaultPolicyVersion": policies.set_default_policy_version,
    "TagPolicy": policies.tag_policy,
    "TagRole": roles.tag_role,
    "UntagPolicy": policies.untag_policy,
    "UntagRole": roles.untag_role,
    "UpdateAssumeRolePolicy": roles.update_assume_role_policy,
    "UpdateRole": roles.update_role,
    "UpdateRoleDescription": roles.update_role_description,
}
OPERATIONS_STS: Final[Mapping[str, Operation]] = {
    "AssumeRole": access.assume_role,
    "GetCallerIdentity": access.get_caller_identity,
    "GetSessionToken": access.get_session_token,
}
