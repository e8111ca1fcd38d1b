"""Access keys, roles and sessions: who asks, and may they do this to that?

Knows the store's access nouns and policy documents; nothing of HTTP, buckets, jobs or models. Decisions follow AWS's
order: an explicit deny anywhere wins; a role's session has what its role's policies allow, less what its boundary and
its session policy leave out; a resource's own policy adds within the account. Source: IAM User Guide, "Policy
evaluation logic".
"""

import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from outcrop.errors import ValidationException
from outcrop.policy import managed
from outcrop.policy.document import Grant, MalformedPolicy, Question, read
from outcrop.records import Arn, Key, Principal, Session
from outcrop.store.access import AccessStore
from outcrop.store.roles import NoRole, Rights, Role
from outcrop.wire.sigv4 import Credential

ADMIN: Final = "outcrop-admin"
FIRST_ROLE: Final = "BedrockCustomizationRole"
ID_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
ANONYMOUS: Final = Principal(arn="*", account="", user_id="anonymous")
BUCKET_POLICY_ACTIONS: Final = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
"""What no bucket policy can take from the admin, who could not undo it otherwise (as with AWS's account root)."""
SWEEP_AFTER: Final = timedelta(days=1)
"""Ended session keys are kept so long, to be answered as expired and not as unknown."""
KEYS_CACHED: Final = 10_000
BEARER_PREFIX: Final = "ABSK"

Given = Mapping[str, str | Sequence[str]]
"""Condition keys of a request, in any case, with one value or several."""

FIRST_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "bedrock.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
FIRST_POLICY: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Datasets",
            "Effect": "Allow",
            "Action": [
                *("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:GetBucketLocation"),
                *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"),
            ],
            "Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"],
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to "may they?", with AWS's words for the reason where they may not."""

    allowed: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.allowed


ALLOWED: Final = Decision(allowed=True)


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """What the app writes into the data directory's `credentials` file."""

    access_key: str
    secret: str = field(repr=False)
    bearer: str = field(repr=False)
    role_arn: str
    made: tuple[str, ...] = field(compare=False)
    """What was missing and is new, in words for people; empty when all was there."""


def unique_id(prefix: str, length: int = 21) -> str:
    """A fresh id of IAM's form: AKIA and ASIA (20 characters), AROA, AIDA and ANPA (21)."""
    return prefix + "".join(secrets.choice(ID_ALPHABET) for _ in range(length - len(prefix)))


def new_secret() -> str:
    """A fresh secret access key: 40 characters of base64."""
    return b64encode(secrets.token_bytes(30)).decode()


class Identity:
    """Keys, sessions and decisions of one account."""

    def __init__(self, store: AccessStore, account: str, now: Callable[[], datetime]) -> None:
        self.account = account
        self.aws_policies = managed.load()
        self._store, self._now = store, now
        # A key never changes once made, so what is known of it stays true; unknown ones are asked for each time.
        self._keys: dict[str, Key] = {}

    # Who asks

    def key_for(self, access_key: str) -> Key | None:
        """The key of that id; None for an unknown one."""
        key = self._keys.get(access_key)
        if key is None:
            key = self._store.keys.find(access_key)
            if key is not None:
                if len(self._keys) >= KEYS_CACHED:
                    self._keys.clear()
                self._keys[access_key] = key
        return key

    def credential_known(self, access_key: str) -> Credential | None:
        """As `credential_for`, but None as well for a key that the store would have to be asked for."""
        return _credential(self._keys.get(access_key))

    def principal_known(self, access_key: str | None) -> Principal | None:
        """As `principal_for`, but None for a key that the store would have to be asked for."""
        if access_key is None:
            return ANONYMOUS
        key = self._keys.get(access_key)
        return None if key is None else key.principal

    def credential_for(self, access_key: str) -> Credential | None:
        """The secret behind an access key, for the signature check; None for an unknown one."""
        return _credential(self.key_for(access_key))

    def bearer_for(self, token: str) -> str | None:
        """The access key that a Bedrock API key stands for; None for an unknown one."""
        return self._store.keys.bearer(token)

    def create_bearer(self, access_key: str) -> str:
        """A fresh Bedrock API key that stands for an access key (AWS_BEARER_TOKEN_BEDROCK)."""
        name = f"BedrockAPIKey-{unique_id('', 4).lower()}-at-{self.account}:{new_secret()}"
        token = BEARER_PREFIX + b64encode(name.encode()).decode()
        self._store.keys.add_bearer(token, access_key, self._now())
        return token

    def principal_for(self, access_key: str | None) -> Principal:
        """Who signs with this key; None is an anonymous caller. Raises LookupError for an unknown key."""
        if access_key is None:
            return ANONYMOUS
        key = self.key_for(access_key)
        if key is None:
            raise LookupError(access_key)
        return key.principal

    def first_start(self) -> FirstKeys:
        """Make the admin's keys and the first role where they are missing, and tell them."""
        made: tuple[str, ...] = ()
        admin = next((key for key, _ in self._store.keys.lasting() if key.principal.admin), None)
        if admin is None:
            arn = str(Arn(service="iam", region="", account=self.account, resource=f"user/{ADMIN}"))
            principal = Principal(arn=arn, account=self.account, user_id=unique_id("AIDA"), admin=True)
            admin = Key(unique_id("AKIA", 20), new_secret(), principal)
            # Only with the first key: a first role that somebody deleted later must stay away. And before it, so that
            # a start cut short between the two is made good by the next.
            self._first_role()
            self._store.keys.add(admin, self._now())
            made = ("keys", "first role")
        bearers = self._store.keys.bearers_of(admin.access_key)
        bearer = bearers[0] if bearers else self.create_bearer(admin.access_key)
        if not bearers and not made:
            made = ("bearer key",)
        return FirstKeys(admin.access_key, admin.secret, bearer, self.role_arn(FIRST_ROLE), made)

    def _first_role(self) -> None:
        role = Role(
            name=FIRST_ROLE,
            id=unique_id("AROA"),
            arn=self.role_arn(FIRST_ROLE),
            path="/",
            trust=json.dumps(FIRST_TRUST, indent=2),
            created=self._now(),
            description="Made at first start: model customization jobs may use every local bucket.",
        )
        self._store.roles.add(role, {"LocalBuckets": json.dumps(FIRST_POLICY, indent=2)})

    def role_arn(self, name: str, path: str = "/") -> str:
        """The ARN of a role of this account."""
        return str(Arn(service="iam", region="", account=self.account, resource=f"role{path}{name}"))

    # Sessions

    def mint(self, role: Role, session_name: str, duration: timedelta, session: Session | None = None) -> Key:
        """Fresh session credentials of a role; who may have them was decided before."""
        now = self._now()
        arn = Arn(service="sts", region="", account=self.account, resource=f"assumed-role/{role.name}/{session_name}")
        principal = Principal(
            arn=str(arn),
            account=self.account,
            user_id=f"{role.id}:{session_name}",
            role=role.arn,
            session=session or Session(),
        )
        return self._keep(principal, now + duration)

    def mint_for_user(self, principal: Principal, duration: timedelta) -> Key:
        """Fresh session credentials with a user's own rights (GetSessionToken)."""
        return self._keep(principal, self._now() + duration)

    def end(self, access_key: str) -> None:
        """End session credentials before their time."""
        self._store.keys.remove(access_key)
        self._keys.pop(access_key, None)

    def _keep(self, principal: Principal, expires: datetime) -> Key:
        key = Key(unique_id("ASIA", 20), new_secret(), principal, secrets.token_urlsafe(192), expires)
        now = self._now()
        self._store.keys.sweep(now - SWEEP_AFTER)
        self._store.keys.add(key, now)
        return key

    def role_of(self, role_arn: str) -> Role | None:
        """The role of that ARN; None where it is of another account, another path, or gone."""
        try:
            arn = Arn.parse(role_arn)
        except ValueError:
            return None
        role = self._store.roles.find(arn.id) if arn.resource.startswith("role/") else None
        return role if role is not None and role.arn == role_arn else None

    def check_assumable(
        self, role_arn: str, *, source_arn: str, source_account: str, service: str = "bedrock.amazonaws.com"
    ) -> Role:
        """The role, if the service could assume it for this source; ValidationException with the way out if not."""
        start = f"Could not assume provided IAM role. {role_arn}"
        role = self.role_of(role_arn)
        if role is None:
            raise ValidationException(
                f"{start} does not exist in account {self.account}. "
                f"Create it with iam:CreateRole, or use {self.role_arn(FIRST_ROLE)}."
            )
        source = {
            "aws:SourceArn": source_arn,
            "aws:SourceAccount": source_account,
            "aws:PrincipalIsAWSService": "true",
            "aws:PrincipalServiceName": service,
        }
        context = _context(self._clock(), source)
        question = Question(action="sts:AssumeRole", resource=role.arn, context=context, service=service)
        try:
            trusted = read(role.trust, "trust").grant(question)
        except MalformedPolicy as error:
            raise ValidationException(f"{start} has a trust policy that cannot be read: {error}") from error
        if trusted <= Grant.NONE:
            why = "denies" if trusted is Grant.DENY else "does not allow"
            raise ValidationException(
                f"{start} {why} sts:AssumeRole to {service} for aws:SourceArn {source_arn} and aws:SourceAccount "
                f"{source_account} in its trust policy. Change it with iam:UpdateAssumeRolePolicy."
            )
        return role

    def assume_for_service(
        self,
        role_arn: str,
        *,
        source_arn: str,
        source_account: str,
        session_name: str,
        service: str = "bedrock.amazonaws.com",
        duration: timedelta = timedelta(hours=12),
    ) -> Key:
        """Fresh session credentials of a role that trusts the service; ValidationException where it does not."""
        role = self.check_assumable(role_arn, source_arn=source_arn, source_account=source_account, service=service)
        return self.mint(role, session_name, duration)

    def may_assume(self, principal: Principal, role: Role, action: str, given: Given) -> Decision:
        """Whether a user or a session may do the action (sts:AssumeRole, sts:TagSession) to a role.

        The role's trust must speak for the caller; where it only names the account, the caller's own policies decide.
        """
        question = self._question(principal, self._rights(principal), action, role.arn, given)
        if read(role.trust, "trust").grant(question) <= Grant.NONE:
            return Decision(allowed=False)
        return self.decide(principal, action, role.arn, given, role.trust, kind="trust")

    # Decisions

    def decide(
        self,
        principal: Principal,
        action: str,
        resource: str,
        context: Given,
        resource_policy: str | None = None,
        *,
        kind: Literal["resource", "trust"] = "resource",
    ) -> Decision:
        """May the principal do the action to the resource?

        context: condition keys of the request; those of the principal and the clock are added here.
        resource_policy: the resource's own document, a bucket's policy or a role's trust.
        """
        if principal.admin and resource_policy is None:
            return ALLOWED  # No document is left that could deny.
        if principal.admin and action in BUCKET_POLICY_ACTIONS:
            return ALLOWED
        rights = self._rights(principal)
        question = self._question(principal, rights, action, resource, context)
        outer = Grant.NONE
        if resource_policy is not None:
            try:
                outer = read(resource_policy, kind).grant(question)
            except MalformedPolicy as error:
                return Decision(allowed=False, reason=f"because its resource-based policy cannot be read: {error}")
        if outer is Grant.DENY:
            return Decision(allowed=False, reason="with an explicit deny in a resource-based policy")
        if principal.admin:
            return ALLOWED
        if principal.role is None:
            return ALLOWED if outer >= Grant.ROLE else _missing("resource-based policy", action)
        if rights is None:
            return _missing("identity-based policy", action)
        return self._of_session(principal.session or Session(), rights, question, outer)

    def _of_session(self, session: Session, rights: Rights, question: Question, outer: Grant) -> Decision:
        """What a role's session may: its role's policies or the resource's, within boundary and session policy."""
        own = _strongest(self.documents(rights), question)
        layers = {"identity-based policy": own}
        if rights.role.boundary is not None:
            bounds = self._managed([rights.role.boundary])
            layers["permissions boundary"] = _strongest(bounds, question)
        if session.policies:
            layers["session policy"] = _strongest(session.policies, question)
        for name, grant in layers.items():
            if grant is Grant.DENY:
                article = "an" if name.startswith("i") else "a"
                return Decision(allowed=False, reason=f"with an explicit deny in {article} {name}")
        if outer is Grant.EXACT:
            return ALLOWED  # A resource that names the very session goes past its boundary and session policy.
        if outer is Grant.ROLE:
            del layers["identity-based policy"]
        for name, grant in layers.items():
            if grant is Grant.NONE:
                return _missing(name, question.action)
        return ALLOWED

    def _rights(self, principal: Principal) -> Rights | None:
        """The present policies of a session's role; None for no session, or when another role took the name."""
        if principal.role is None:
            return None
        try:
            rights = self._store.roles.rights(Arn.parse(principal.role).id)
        except NoRole:
            return None
        same = principal.user_id.partition(":")[0] == rights.role.id
        return rights if same else None

    def documents(self, rights: Rights) -> list[str]:
        """All documents that give a role its rights."""
        return [*rights.documents, *self._managed(rights.attached)]

    def _managed(self, arns: Sequence[str]) -> list[str]:
        """The documents behind ARNs of managed policies, AWS's and the account's."""
        own = [arn for arn in arns if arn not in self.aws_policies]
        documents = [self.aws_policies[arn].document for arn in arns if arn in self.aws_policies]
        return documents + (self._store.policies.documents(own) if own else [])

    def _question(
        self, principal: Principal, rights: Rights | None, action: str, resource: str, given: Given
    ) -> Question:
        # A session has its role's tags, and its own over them.
        tags = {f"aws:principaltag/{key}": value for key, value in rights.role.tags.items()} if rights else {}
        return Question(
            action=action,
            resource=resource,
            context=_context(self._clock(), tags, _of_principal(principal), given),
            arn=principal.arn,
            role=principal.role,
            account=principal.account,
        )

    def _clock(self) -> dict[str, str]:
        now = self._now()
        return {
            "aws:CurrentTime": now.isoformat(),
            "aws:EpochTime": str(int(now.timestamp())),
            "aws:ViaAWSService": "false",
        }


def _credential(key: Key | None) -> Credential | None:
    if key is None:
        return None
    return Credential(
        access_key=key.access_key, secret=key.secret, session_token=key.session_token, expires=key.expires
    )


def _context(*parts: Given) -> dict[str, Sequence[str]]:
    """One mapping of lower-case condition keys; later parts win."""
    return {key.lower(): (value,) if isinstance(value, str) else value for part in parts for key, value in part.items()}


def _of_principal(principal: Principal) -> dict[str, str]:
    """The condition keys that tell who asks; an anonymous caller has the least of them."""
    if not principal.account:
        return {"aws:PrincipalType": "Anonymous", "aws:userid": "anonymous"}
    role = principal.role
    context = {
        # AWS compares a session's role here, not the session.
        "aws:PrincipalArn": role or principal.arn,
        "aws:PrincipalAccount": principal.account,
        "aws:PrincipalType": "User" if role is None else "AssumedRole",
        "aws:PrincipalIsAWSService": "false",
        "aws:userid": principal.user_id,
    }
    if role is None:
        context["aws:username"] = Arn.parse(principal.arn).id
    if principal.session is not None:
        context |= {f"aws:PrincipalTag/{key}": value for key, value in principal.session.tags}
        if principal.session.source_identity is not None:
            context["aws:SourceIdentity"] = principal.session.source_identity
    return context


def _strongest(documents: Sequence[str], question: Question) -> Grant:
    """What several documents of one layer say together: a deny wins, else the closest allow."""
    grants = [read(text, "identity").grant(question) for text in documents]
    return Grant.DENY if Grant.DENY in grants else max(grants, default=Grant.NONE)


def _missing(layer: str, action: str) -> Decision:
    return Decision(allowed=False, reason=f"because no {layer} allows the {action} action")
