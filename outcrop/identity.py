"""Access keys, roles and sessions: who asks, and may they do this to that?

Knows the store's access nouns and the policy evaluator; nothing of HTTP, buckets, jobs or models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from outcrop.records import Key, Principal
from outcrop.store.access import AccessStore
from outcrop.wire.sigv4 import Credential


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to "may they?", with AWS's words for the reason."""

    allowed: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """What the app writes into the data directory's `credentials` file."""

    access_key: str
    secret: str
    bearer: str
    role_arn: str


class Identity:
    """Keys, sessions and decisions of one account."""

    def __init__(self, store: AccessStore, account: str, now: Callable[[], datetime]) -> None:
        self._store, self._account, self._now = store, account, now

    def credential_for(self, access_key: str) -> Credential | None:
        """The secret behind an access key, for the signature check; None for an unknown one."""
        raise NotImplementedError

    def bearer_for(self, token: str) -> str | None:
        """The access key that a Bedrock API key stands for; None for an unknown one."""
        raise NotImplementedError

    def principal_for(self, access_key: str | None) -> Principal:
        """Who signs with this key; None is an anonymous caller."""
        raise NotImplementedError

    def first_start(self) -> FirstKeys:
        """Make the admin's keys and the first role where they are missing, and tell them."""
        raise NotImplementedError

    def check_assumable(self, role_arn: str, *, service: str, source_arn: str, source_account: str) -> None:
        """Raise ValidationException unless the service could assume the role for this source."""
        raise NotImplementedError

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
        raise NotImplementedError

    def decide(
        self,
        principal: Principal,
        action: str,
        resource: str,
        context: Mapping[str, str | list[str]],
        resource_policy: str | None = None,
    ) -> Decision:
        """May the principal do the action to the resource?"""
        raise NotImplementedError
