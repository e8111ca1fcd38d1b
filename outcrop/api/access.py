"""STS, and the one user: who am I, and session credentials for a role or for myself.

Knows the call and `identity`. Whom a role trusts is asked here and not at admission, for it is the role's own document
that says so.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from outcrop.api import iam_faults as faults
from outcrop.api.call import Call
from outcrop.api.iam_pages import read_tags
from outcrop.api.policies import existing as existing_policy
from outcrop.api.roles import check_document
from outcrop.errors import ServiceError
from outcrop.policy.managed import AwsPolicy
from outcrop.records import Arn, Key, Principal, Session
from outcrop.store.roles import Role, size

Params = Mapping[str, Any]
Answer = Mapping[str, Any]

DEFAULT_ROLE_SECONDS: Final = 3600
DEFAULT_USER_SECONDS: Final = 43_200
LONGEST_CHAINED_SECONDS: Final = 3600
"""A role assumed from a role's session ends after an hour (IAM User Guide, "Role chaining")."""
SESSION_POLICY_SIZE: Final = 2048
"""Characters but white space of all session policies (STS, AssumeRole)."""
MOST_SESSION_POLICIES: Final = 10
NO_MFA: Final = "MultiFactorAuthentication failed: there are no MFA devices here, so no {member} can be right."


def credentials(key: Key) -> dict[str, Any]:
    """Session credentials as STS tells them."""
    return {
        "AccessKeyId": key.access_key,
        "SecretAccessKey": key.secret,
        "SessionToken": key.session_token,
        "Expiration": key.expires,
    }


def get_caller_identity(call: Call, _params: Params) -> Answer:
    """GetCallerIdentity."""
    caller = call.caller
    return {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}


def refuse_mfa(params: Params) -> None:
    """Refuse a one-time code rather than overlook it."""
    for member in ("SerialNumber", "TokenCode"):
        if params.get(member) is not None:
            raise ServiceError(NO_MFA.format(member=member), code="AccessDenied", status=403)


def get_session_token(call: Call, params: Params) -> Answer:
    """GetSessionToken: temporary credentials with the user's own rights."""
    refuse_mfa(params)
    key = call.rooms.identity.key_for(call.signed.access_key or "")
    if key is None or key.session_token is not None:
        raise ServiceError("Cannot call GetSessionToken with session credentials", code="AccessDenied", status=403)
    seconds = params.get("DurationSeconds") or DEFAULT_USER_SECONDS
    return {"Credentials": credentials(call.rooms.identity.mint_for_user(call.caller, timedelta(seconds=seconds)))}


def assume_role(call: Call, params: Params) -> Answer:
    """AssumeRole."""
    refuse_mfa(params)
    if params.get("ProvidedContexts"):
        raise faults.invalid("ProvidedContexts: there is no context provider here that could vouch for them.")
    identity, name = call.rooms.identity, params["RoleSessionName"]
    role = identity.role_of(params["RoleArn"])
    if role is None:
        raise call.denied("sts:AssumeRole", params["RoleArn"])
    session = _session(call, params)
    _check_trusted(call, role, params, session)
    seconds = _seconds(call.caller, role, params.get("DurationSeconds") or DEFAULT_ROLE_SECONDS)
    key = identity.mint(role, name, timedelta(seconds=seconds), session)
    answer: dict[str, Any] = {
        "Credentials": credentials(key),
        "AssumedRoleUser": {"AssumedRoleId": key.principal.user_id, "Arn": key.principal.arn},
    }
    if params.get("Policy") is not None:
        answer["PackedPolicySize"] = -(-100 * size(params["Policy"]) // SESSION_POLICY_SIZE)
    if session.source_identity is not None:
        answer["SourceIdentity"] = session.source_identity
    return answer


def _seconds(caller: Principal, role: Role, asked: int) -> int:
    """How long the session lasts; refuses more than the role or a chain of roles allows."""
    if asked > role.max_session_seconds:
        raise faults.invalid(
            f"The requested DurationSeconds exceeds the MaxSessionDuration set for this role. {asked} > "
            f"{role.max_session_seconds}"
        )
    if caller.role is not None and asked > LONGEST_CHAINED_SECONDS:
        raise faults.invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    return asked


def _session(call: Call, params: Params) -> Session:
    """What the session is to carry: its policies, its tags and those of the caller's that go along."""
    policies = _session_policies(call, params)
    before = call.caller.session or Session()
    inherited = {key: value for key, value in before.tags if key in before.transitive}
    tags = read_tags(params.get("Tags") or ())
    taken = {key.lower() for key in inherited} & {key.lower() for key in tags}
    if taken:
        raise faults.invalid(f"Tag key {sorted(taken)[0]!r} came with the caller's session and cannot be set again.")
    asked = params.get("SourceIdentity")
    if asked is not None and before.source_identity not in (None, asked):
        raise call.denied("sts:SetSourceIdentity", params["RoleArn"])
    transitive = {*inherited, *(params.get("TransitiveTagKeys") or ())}
    return Session(
        policies=policies,
        tags=tuple(sorted((inherited | tags).items())),
        transitive=tuple(sorted(transitive)),
        source_identity=asked or before.source_identity,
    )


def _session_policies(call: Call, params: Params) -> tuple[str, ...]:
    documents = []
    if params.get("Policy") is not None:
        check_document(params["Policy"], "identity")
        documents.append(params["Policy"])
    arns = [given["arn"] for given in params.get("PolicyArns") or () if given.get("arn")]
    if len(arns) > MOST_SESSION_POLICIES:
        raise faults.invalid(f"PolicyArns: {len(arns)} managed policies exceed the limit of {MOST_SESSION_POLICIES}.")
    if size("".join(documents)) > SESSION_POLICY_SIZE:
        raise ServiceError(
            f"Policy exceeds the limit of {SESSION_POLICY_SIZE} characters", code="PackedPolicyTooLarge", status=400
        )
    for arn in arns:
        found = existing_policy(call, arn)
        if isinstance(found, AwsPolicy):
            documents.append(found.document)
        else:
            documents += call.rooms.store.access.policies.documents([arn])
    return tuple(documents)


def _check_trusted(call: Call, role: Role, params: Params, session: Session) -> None:
    """Refuse unless the role trusts the caller for all that is asked: the session, its tags, its source identity."""
    given: dict[str, Any] = {**call.given, "sts:RoleSessionName": params["RoleSessionName"]}
    if params.get("ExternalId") is not None:
        given["sts:ExternalId"] = params["ExternalId"]
    if session.source_identity is not None:
        given["sts:SourceIdentity"] = session.source_identity
    if session.tags:
        given |= {f"aws:RequestTag/{key}": value for key, value in session.tags}
        given["aws:TagKeys"] = [key for key, _ in session.tags]
        given["sts:TransitiveTagKeys"] = list(session.transitive)
    actions = ["sts:AssumeRole"]
    if session.tags:
        actions.append("sts:TagSession")
    if session.source_identity is not None:
        actions.append("sts:SetSourceIdentity")
    for action in actions:
        decision = call.rooms.identity.may_assume(call.caller, role, action, given)
        if not decision:
            raise call.denied(action, role.arn, decision.reason)


def get_user(call: Call, params: Params) -> Answer:
    """GetUser: the account's one user, by name or as the caller."""
    asked = params.get("UserName")
    if asked is None and call.caller.role is not None:
        raise faults.invalid("Must specify userName when calling with non-User credentials")
    for key, created in call.rooms.store.access.keys.lasting():
        arn = Arn.parse(key.principal.arn)
        if arn.id == asked or (asked is None and key.principal.arn == call.caller.arn):
            return {
                "User": {
                    "Path": "/",
                    "UserName": arn.id,
                    "UserId": key.principal.user_id,
                    "Arn": str(arn),
                    "CreateDate": created,
                }
            }
    raise faults.no_user(asked or call.caller.arn)
