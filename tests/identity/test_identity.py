"""Keys, sessions and decisions over the real store in memory, with a clock moved by hand."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outcrop.errors import ValidationException
from outcrop.identity import ANONYMOUS, FIRST_ROLE, Identity
from outcrop.records import Principal, Session
from outcrop.store.access import AccessStore
from outcrop.store.database import Database
from outcrop.store.policies import Policy
from outcrop.store.roles import Role

ACCOUNT = "123456789012"
JOB = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/amazon.titan-text-express-v1:0:8k/abcdefghijkl"
FIRST_ARN = f"arn:aws:iam::{ACCOUNT}:role/{FIRST_ROLE}"


class Clock:
    """The present of a test."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> AccessStore:
    database = Database("sqlite://")
    database.create()
    return AccessStore(database)


@pytest.fixture
def identity(store: AccessStore, clock: Clock) -> Identity:
    return Identity(store, ACCOUNT, clock)


def allow(action: str | list[str] = "s3:*", resource: str | list[str] = "*", **more: Any) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **more}]}
    )


def bucket_policy(effect: str, principal: Any, **more: Any) -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": "s3:*", "Resource": "arn:aws:s3:::b/*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trust(principal: Any, **condition: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    if condition:
        statement["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make_role(store: AccessStore, clock: Clock, name: str = "R", **changes: Any) -> Role:
    role = Role(
        name=name,
        id=f"AROA{name}",
        arn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
        path="/",
        trust=trust({"AWS": ACCOUNT}),
        created=clock.now,
    )
    role = replace(role, **changes)
    assert store.roles.add(role)
    return role


def test_first_start_makes_everything_once(identity: Identity, store: AccessStore, clock: Clock) -> None:
    keys = identity.first_start()
    assert keys.access_key.startswith("AKIA")
    assert (len(keys.access_key), len(keys.secret)) == (20, 40)
    assert keys.made == ("keys", "first role")
    assert (identity.first_start(), identity.first_start().made) == (keys, ())
    # And by another server over the same database.
    later = Identity(store, ACCOUNT, clock)
    assert later.first_start() == keys
    credential = later.credential_for(keys.access_key)
    assert credential is not None
    assert (credential.secret, credential.session_token, credential.expires) == (keys.secret, None, None)
    assert later.bearer_for(keys.bearer) == keys.access_key
    assert later.bearer_for(keys.bearer + "x") is None
    assert later.credential_for("AKIANOBODY") is None
    principal = later.principal_for(keys.access_key)
    assert (principal.arn, principal.admin) == (f"arn:aws:iam::{ACCOUNT}:user/outcrop-admin", True)
    assert keys.role_arn == FIRST_ARN
    # A first role that was deleted on purpose stays away.
    store.roles.delete_policy(FIRST_ROLE, "LocalBuckets")
    store.roles.delete(FIRST_ROLE)
    assert later.first_start() == keys
    assert store.roles.find(FIRST_ROLE) is None


def test_a_key_that_was_asked_for_is_known_until_it_is_ended(
    identity: Identity, store: AccessStore, clock: Clock
) -> None:
    key = Identity(store, ACCOUNT, clock).mint(make_role(store, clock), "s", timedelta(hours=1))
    assert identity.credential_known(key.access_key) is identity.principal_known(key.access_key) is None
    credential = identity.credential_for(key.access_key)
    assert credential is not None
    assert identity.credential_known(key.access_key) == credential
    assert identity.principal_known(key.access_key) == key.principal
    assert identity.credential_known("AKIANOBODY") is None
    identity.end(key.access_key)
    assert identity.credential_known(key.access_key) is identity.principal_known(key.access_key) is None
    assert identity.credential_for(key.access_key) is None


def test_a_job_runs_with_the_first_roles_rights(identity: Identity, clock: Clock) -> None:
    identity.first_start()
    key = identity.assume_for_service(FIRST_ARN, source_arn=JOB, source_account=ACCOUNT, session_name="job-1")
    assert key.access_key.startswith("ASIA")
    assert key.expires == clock.now + timedelta(hours=12)
    assert key.principal.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/{FIRST_ROLE}/job-1"
    credential = identity.credential_for(key.access_key)
    assert credential is not None
    assert credential.session_token == key.session_token
    caller = identity.principal_for(key.access_key)
    assert caller == key.principal
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert identity.decide(caller, action, "arn:aws:s3:::b/k", {})
    refusal = identity.decide(caller, "s3:DeleteBucket", "arn:aws:s3:::b", {})
    assert not refusal
    assert refusal.reason == "because no identity-based policy allows the s3:DeleteBucket action"
    assert not identity.decide(caller, "bedrock:InvokeModel", "*", {})


def test_session_keys_survive_a_restart_and_are_swept_a_day_after_their_end(
    identity: Identity, store: AccessStore, clock: Clock
) -> None:
    role = make_role(store, clock)
    session = Session(policies=(allow(),), tags=(("Team", "a"),), transitive=("Team",), source_identity="ann")
    key = identity.mint(role, "s", timedelta(hours=1), session)
    assert Identity(store, ACCOUNT, clock).key_for(key.access_key) == key
    clock.now += timedelta(hours=24)
    identity.mint(role, "t", timedelta(hours=1))
    assert store.keys.find(key.access_key) == key
    clock.now += timedelta(hours=2)
    identity.mint(role, "u", timedelta(hours=1))
    assert store.keys.find(key.access_key) is None


@pytest.mark.parametrize(
    ("role_arn", "words"),
    [
        (f"arn:aws:iam::{ACCOUNT}:role/none", f"none does not exist in account {ACCOUNT}"),
        (f"arn:aws:iam::{ACCOUNT}:role/path/R", "does not exist"),
        ("arn:aws:iam::999999999999:role/R", "does not exist"),
        ("arn:aws:iam:::role/R", "does not exist"),
        (f"arn:aws:iam::{ACCOUNT}:role/R", "does not allow sts:AssumeRole to bedrock.amazonaws.com"),
        (f"arn:aws:iam::{ACCOUNT}:role/narrow", "does not allow sts:AssumeRole to bedrock.amazonaws.com"),
        (f"arn:aws:iam::{ACCOUNT}:role/denied", "denies sts:AssumeRole to bedrock.amazonaws.com"),
    ],
)
def test_roles_that_bedrock_cannot_assume(
    identity: Identity, store: AccessStore, clock: Clock, role_arn: str, words: str
) -> None:
    service = {"Service": "bedrock.amazonaws.com"}
    make_role(store, clock)
    make_role(store, clock, "narrow", trust=trust(service, StringEquals={"aws:SourceAccount": "999999999999"}))
    denied = json.loads(trust(service))
    denied["Statement"].append({**denied["Statement"][0], "Effect": "Deny"})
    make_role(store, clock, "denied", trust=json.dumps(denied))
    with pytest.raises(ValidationException) as error:
        identity.check_assumable(role_arn, source_arn=JOB, source_account=ACCOUNT)
    assert error.value.message.startswith(f"Could not assume provided IAM role. {role_arn} ")
    assert words in error.value.message


def test_the_confused_deputy_guard(identity: Identity, store: AccessStore, clock: Clock) -> None:
    guard = {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnEquals": {"aws:SourceArn": f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/*"},
    }
    role = make_role(store, clock, trust=trust({"Service": "bedrock.amazonaws.com"}, **guard))
    assert identity.check_assumable(role.arn, source_arn=JOB, source_account=ACCOUNT) == role
    for source_arn, source_account, service in (
        (JOB.replace("us-east-1", "us-west-2"), ACCOUNT, "bedrock.amazonaws.com"),
        (JOB.replace("model-customization-job", "model-import-job"), ACCOUNT, "bedrock.amazonaws.com"),
        (JOB, "999999999999", "bedrock.amazonaws.com"),
        (JOB, ACCOUNT, "lambda.amazonaws.com"),
    ):
        with pytest.raises(ValidationException):
            identity.check_assumable(role.arn, source_arn=source_arn, source_account=source_account, service=service)


def session_of(identity: Identity, role: Role, **session: Any) -> Principal:
    return identity.mint(role, "s", timedelta(hours=1), Session(**session)).principal


GET = ("s3:GetObject", "arn:aws:s3:::b/k")
NOBODYS = "because no identity-based policy allows the s3:GetObject action"


@pytest.mark.parametrize(
    "layers",
    [
        # Inline policy, boundary, session policy, bucket policy, and the reason of the refusal; None: allowed.
        # The caller is arn:aws:sts::…:assumed-role/R/s throughout.
        (None, None, None, None, NOBODYS),
        (allow(), None, None, None, None),
        (allow(resource="arn:aws:s3:::c/*"), None, None, None, NOBODYS),
        (allow().replace("Allow", "Deny"), None, None, None, "with an explicit deny in an identity-based policy"),
        (allow(), "AmazonS3ReadOnlyAccess", None, None, None),
        (allow(), "IAMFullAccess", None, None, "because no permissions boundary allows the s3:GetObject action"),
        (None, "AmazonS3ReadOnlyAccess", None, None, NOBODYS),
        (allow(), None, allow("s3:Get*"), None, None),
        (allow(), None, allow("s3:Put*"), None, "because no session policy allows the s3:GetObject action"),
        (allow(), None, allow().replace("Allow", "Deny"), None, "with an explicit deny in a session policy"),
        (None, None, allow(), None, NOBODYS),
        # The bucket adds to what the role may…
        (None, None, None, bucket_policy("Allow", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/R"}), None),
        (None, None, None, bucket_policy("Allow", "*"), None),
        (None, None, None, bucket_policy("Allow", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/Q"}), NOBODYS),
        # … but naming the account leaves it to the role's own policies …
        (None, None, None, bucket_policy("Allow", {"AWS": ACCOUNT}), NOBODYS),
        (allow(), None, None, bucket_policy("Allow", {"AWS": ACCOUNT}), None),
        # … and a session policy takes from what the bucket gives to the role, not from what it gives to the session.
        (
            None,
            None,
            allow("s3:Put*"),
            bucket_policy("Allow", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/R"}),
            "because no session policy allows the s3:GetObject action",
        ),
        (
            None,
            "IAMFullAccess",
            allow("s3:Put*"),
            bucket_policy("Allow", {"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/R/s"}),
            None,
        ),
        # A deny anywhere wins.
        (allow(), None, None, bucket_policy("Deny", "*"), "with an explicit deny in a resource-based policy"),
        (
            allow(),
            None,
            None,
            bucket_policy("Deny", "*", Condition={"StringNotEquals": {"aws:PrincipalArn": "arn:aws:iam::1:role/x"}}),
            "with an explicit deny in a resource-based policy",
        ),
        (
            allow(),
            None,
            None,
            bucket_policy(
                "Deny", "*", Condition={"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/R"}}
            ),
            None,
        ),
        (
            allow().replace("Allow", "Deny"),
            None,
            None,
            bucket_policy("Allow", {"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/R/s"}),
            "with an explicit deny in an identity-based policy",
        ),
    ],
)
def test_what_a_session_may(
    identity: Identity, store: AccessStore, clock: Clock, layers: tuple[str | None, ...]
) -> None:
    inline, boundary, session, bucket, reason = layers
    role = make_role(store, clock, boundary=f"arn:aws:iam::aws:policy/{boundary}" if boundary else None)
    if inline is not None:
        store.roles.put_policy("R", "p", inline, 10_240)
    caller = session_of(identity, role, policies=(session,) if session else ())
    decision = identity.decide(caller, *GET, {}, bucket)
    assert (decision.allowed, decision.reason) == (reason is None, reason or "")


def test_attached_policies_count_as_they_are_now(identity: Identity, store: AccessStore, clock: Clock) -> None:
    role = make_role(store, clock)
    caller = session_of(identity, role)
    arn = f"arn:aws:iam::{ACCOUNT}:policy/p"
    store.policies.add(Policy(arn, "p", "ANPA1", "/", clock.now, clock.now), allow("s3:Put*"))
    store.roles.attach("R", arn, 10)
    assert not identity.decide(caller, *GET, {})
    store.policies.add_version(arn, allow("s3:Get*"), clock.now, default=False, most=5)
    assert not identity.decide(caller, *GET, {})
    store.policies.set_default(arn, "v2", clock.now)
    assert identity.decide(caller, *GET, {})
    store.roles.detach("R", arn)
    assert not identity.decide(caller, *GET, {})
    store.roles.attach("R", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess", 10)
    assert identity.decide(caller, *GET, {})
    assert not identity.decide(caller, "s3:PutObject", "arn:aws:s3:::b/k", {})


def test_a_role_made_again_under_the_same_name_gives_old_sessions_nothing(
    identity: Identity, store: AccessStore, clock: Clock
) -> None:
    role = make_role(store, clock)
    store.roles.put_policy("R", "p", allow(), 10_240)
    caller = session_of(identity, role)
    assert identity.decide(caller, *GET, {})
    store.roles.delete_policy("R", "p")
    store.roles.delete("R")
    assert not identity.decide(caller, *GET, {})
    make_role(store, clock, id="AROAOTHER")
    store.roles.put_policy("R", "p", allow(), 10_240)
    assert not identity.decide(caller, *GET, {})


def test_tags_of_role_and_session_are_the_principals(identity: Identity, store: AccessStore, clock: Clock) -> None:
    role = make_role(store, clock, tags={"team": "a", "stage": "dev"})
    store.roles.put_policy("R", "p", allow(resource="arn:aws:s3:::b/${aws:PrincipalTag/Team}/*"), 10_240)
    assert identity.decide(session_of(identity, role), "s3:GetObject", "arn:aws:s3:::b/a/k", {})
    caller = session_of(identity, role, tags=(("Team", "b"),))
    assert not identity.decide(caller, "s3:GetObject", "arn:aws:s3:::b/a/k", {})
    assert identity.decide(caller, "s3:GetObject", "arn:aws:s3:::b/b/k", {})


def test_the_clock_is_a_condition(identity: Identity, store: AccessStore, clock: Clock) -> None:
    role = make_role(store, clock)
    until = {"DateLessThan": {"aws:CurrentTime": "2026-05-01T13:00:00Z"}}
    store.roles.put_policy("R", "p", allow(Condition=until), 10_240)
    caller = session_of(identity, role)
    assert identity.decide(caller, *GET, {})
    clock.now += timedelta(hours=1)
    assert not identity.decide(caller, *GET, {})


def test_the_admin_may_all_but_what_a_bucket_denies(identity: Identity) -> None:
    admin = identity.principal_for(identity.first_start().access_key)
    denial = bucket_policy("Deny", "*", Resource=["arn:aws:s3:::b", "arn:aws:s3:::b/*"])
    assert identity.decide(admin, *GET, {})
    assert identity.decide(admin, *GET, {}, bucket_policy("Allow", {"AWS": "999999999999"}))
    refusal = identity.decide(admin, *GET, {}, denial)
    assert (refusal.allowed, refusal.reason) == (False, "with an explicit deny in a resource-based policy")
    for action in ("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"):
        assert identity.decide(admin, action, "arn:aws:s3:::b", {}, denial)


def test_a_user_that_is_no_admin_has_what_a_bucket_gives_by_name(identity: Identity) -> None:
    user = Principal(arn=f"arn:aws:iam::{ACCOUNT}:user/ann", account=ACCOUNT, user_id="AIDAANN")
    assert identity.decide(user, *GET, {}, bucket_policy("Allow", {"AWS": user.arn}))
    assert not identity.decide(user, *GET, {}, bucket_policy("Allow", {"AWS": ACCOUNT}))
    assert not identity.decide(user, *GET, {})


def test_nobody_may_only_what_a_bucket_allows_to_all(identity: Identity) -> None:
    assert not identity.decide(ANONYMOUS, *GET, {})
    assert identity.decide(ANONYMOUS, *GET, {}, bucket_policy("Allow", "*"))
    assert not identity.decide(ANONYMOUS, *GET, {}, bucket_policy("Allow", {"AWS": ACCOUNT}))
    secure = bucket_policy("Allow", "*", Condition={"Bool": {"aws:SecureTransport": "true"}})
    assert not identity.decide(ANONYMOUS, *GET, {"aws:SecureTransport": "false"}, secure)
    assert identity.decide(ANONYMOUS, *GET, {"aws:SecureTransport": "true"}, secure)
    account = bucket_policy("Allow", "*", Condition={"StringEquals": {"aws:PrincipalAccount": ACCOUNT}})
    assert not identity.decide(ANONYMOUS, *GET, {}, account)


def test_a_policy_that_cannot_be_read_lets_nobody_in(identity: Identity, store: AccessStore, clock: Clock) -> None:
    admin = identity.principal_for(identity.first_start().access_key)
    role = make_role(store, clock)
    store.roles.put_policy("R", "p", allow(), 10_240)
    for caller in (admin, session_of(identity, role), ANONYMOUS):
        decision = identity.decide(caller, *GET, {}, '{"Statement": 1}')
        assert not decision
        assert "cannot be read" in decision.reason


def test_whom_a_role_trusts(identity: Identity, store: AccessStore, clock: Clock) -> None:
    admin = identity.principal_for(identity.first_start().access_key)
    first = make_role(store, clock, "first")
    caller = session_of(identity, first)
    cases = [
        # whom the role trusts, whether the caller's own policies allow it, who may assume it: admin, session
        ({"Service": "bedrock.amazonaws.com"}, True, (False, False)),
        ({"AWS": ACCOUNT}, False, (True, False)),
        ({"AWS": ACCOUNT}, True, (True, True)),
        ({"AWS": first.arn}, False, (False, True)),
        ({"AWS": admin.arn}, True, (True, False)),
        ({"AWS": "999999999999"}, True, (False, False)),
    ]
    for place, (principal, own, answers) in enumerate(cases):
        role = make_role(store, clock, f"target{place}", trust=trust(principal))
        store.roles.put_policy("first", "p", allow("sts:AssumeRole" if own else "s3:*"), 10_240)
        found = tuple(bool(identity.may_assume(who, role, "sts:AssumeRole", {})) for who in (admin, caller))
        assert found == answers, principal


def test_secrets_do_not_show_where_a_key_is_printed(identity: Identity) -> None:
    first = identity.first_start()
    key = identity.assume_for_service(first.role_arn, source_arn=JOB, source_account=ACCOUNT, session_name="s")
    shown = repr(first) + repr(key) + repr(identity.credential_for(key.access_key))
    for secret in (first.secret, first.bearer, key.secret, key.session_token):
        assert secret is not None
        assert secret not in shown
