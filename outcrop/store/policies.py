"""Managed policies of the account with their versions and tags, as the store keeps them. Decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from outcrop.store.database import Database, Instant, metadata
from outcrop.store.roles import ATTACHMENTS, ROLES, TooMuch, tagged

POLICIES: Final = Table(
    "policies",
    metadata,
    # The name in lower case: unique within the account whatever the path.
    Column("key", String(128), primary_key=True),
    Column("arn", String(2048), nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    Column("id", String(32), nullable=False),
    Column("path", String(512), nullable=False),
    Column("description", Text),
    Column("default", String(16), nullable=False),
    Column("last", Integer, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
)
VERSIONS: Final = Table(
    "policy_versions",
    metadata,
    Column("policy", String(2048), ForeignKey("policies.arn"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created", Instant, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """A managed policy, the account's own or AWS's."""

    arn: str
    name: str
    id: str
    """ANPA…"""
    path: str
    created: datetime
    updated: datetime
    default: str = "v1"
    """The version that counts."""
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a managed policy."""

    id: str
    """v1, v2, …"""
    document: str
    created: datetime


class NoPolicy(Exception):
    """There is no such policy, or no such version; the argument is what was asked for."""


class PolicyInUse(Exception):
    """A policy that is attached, bounds a role or has further versions cannot be deleted; the argument says which."""


def _find(connection: Connection, arn: str) -> Policy:
    row = connection.execute(select(POLICIES).where(POLICIES.c.arn == arn)).first()
    if row is None:
        raise NoPolicy(arn)
    values = row._asdict()
    return Policy(**{name: values[name] for name in Policy.__dataclass_fields__})


def _locked(connection: Connection, arn: str) -> Policy:
    """The policy, which stays locked until the transaction ends; raises NoPolicy."""
    connection.execute(select(POLICIES.c.key).where(POLICIES.c.arn == arn))
    return _find(connection, arn)


def _versions(connection: Connection, arn: str) -> list[Version]:
    query = select(VERSIONS).where(VERSIONS.c.policy == arn).order_by(VERSIONS.c.number.desc())
    return [Version(f"v{row.number}", row.document, row.created) for row in connection.execute(query)]


def _number(arn: str, version: str) -> int:
    """3 of v3; raises NoPolicy for what is no version at all."""
    if not version.startswith("v") or not version[1:].isdecimal():
        raise NoPolicy(f"{arn} {version}")
    return int(version[1:])


class PolicyStore:
    """The verbs of managed policies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, policy: Policy, document: str) -> bool:
        """Keep a new policy with its first version; False where the name is taken."""
        values = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
        try:
            with self._database.write() as connection:
                connection.execute(insert(POLICIES).values(key=policy.name.lower(), last=1, **values))
                connection.execute(
                    insert(VERSIONS).values(policy=policy.arn, number=1, document=document, created=policy.created)
                )
        except IntegrityError:
            return False
        return True

    def find(self, arn: str) -> Policy:
        """The policy of that ARN; raises NoPolicy."""
        with self._database.read() as connection:
            return _find(connection, arn)

    def all(self) -> list[Policy]:
        """Every policy of the account, sorted by name (an account has at most 1,500)."""
        with self._database.read() as connection:
            rows = connection.execute(select(POLICIES).order_by(POLICIES.c.key)).all()
        return [Policy(**{name: getattr(row, name) for name in Policy.__dataclass_fields__}) for row in rows]

    def documents(self, arns: Sequence[str]) -> list[str]:
        """The default documents of those policies that exist."""
        with self._database.read() as connection:
            rows = connection.execute(select(POLICIES.c.arn, POLICIES.c.default).where(POLICIES.c.arn.in_(arns))).all()
            return [
                version.document
                for row in rows
                for version in _versions(connection, row.arn)
                if version.id == row.default
            ]

    def tag(self, arn: str, add: Mapping[str, str], remove: Sequence[str], most: int) -> Policy:
        """Set and drop tags; raises NoPolicy, and TooMuch beyond `most` tags."""
        with self._database.write() as connection:
            policy = _locked(connection, arn)
            tags = tagged(policy.tags, add, remove)
            if len(tags) > most:
                raise TooMuch(most)
            connection.execute(update(POLICIES).where(POLICIES.c.arn == arn).values(tags=tags))
            return replace(policy, tags=tags)

    def delete(self, arn: str) -> None:
        """Drop a policy; raises NoPolicy, and PolicyInUse."""
        with self._database.write() as connection:
            _locked(connection, arn)
            if connection.scalar(select(ATTACHMENTS.c.role).where(ATTACHMENTS.c.policy == arn).limit(1)) is not None:
                raise PolicyInUse("Cannot delete a policy attached to entities.")
            if connection.scalar(select(ROLES.c.key).where(ROLES.c.boundary == arn).limit(1)) is not None:
                raise PolicyInUse("Cannot delete a policy that is the permissions boundary of an entity.")
            if len(_versions(connection, arn)) > 1:
                raise PolicyInUse(
                    "This policy has more than one version. Before you delete a policy, you must delete the policy's "
                    "versions. The default version is deleted with the policy."
                )
            connection.execute(delete(VERSIONS).where(VERSIONS.c.policy == arn))
            connection.execute(delete(POLICIES).where(POLICIES.c.arn == arn))

    def versions(self, arn: str) -> list[Version]:
        """A policy's versions, newest first; raises NoPolicy."""
        with self._database.read() as connection:
            _find(connection, arn)
            return _versions(connection, arn)

    def add_version(self, arn: str, document: str, now: datetime, *, default: bool, most: int) -> Version:
        """Keep a further version; raises NoPolicy, and TooMuch beyond `most` of them."""
        with self._database.write() as connection:
            policy = _locked(connection, arn)
            if len(_versions(connection, arn)) >= most:
                raise TooMuch(most)
            # Numbers are never used again, not even that of a deleted newest version.
            last = connection.scalar(select(POLICIES.c.last).where(POLICIES.c.arn == arn))
            number = int(last or 0) + 1
            connection.execute(insert(VERSIONS).values(policy=arn, number=number, document=document, created=now))
            chosen = f"v{number}" if default else policy.default
            values = {"last": number, "default": chosen, "updated": now}
            connection.execute(update(POLICIES).where(POLICIES.c.arn == arn).values(**values))
            return Version(f"v{number}", document, now)

    def delete_version(self, arn: str, version: str) -> None:
        """Drop a version; raises NoPolicy, and PolicyInUse for the default one."""
        with self._database.write() as connection:
            policy = _locked(connection, arn)
            mine = (VERSIONS.c.policy == arn) & (VERSIONS.c.number == _number(arn, version))
            if version == policy.default:
                raise PolicyInUse("Cannot delete the default version of a policy.")
            if connection.execute(delete(VERSIONS).where(mine)).rowcount == 0:
                raise NoPolicy(f"{arn} {version}")

    def set_default(self, arn: str, version: str, now: datetime) -> None:
        """Choose the version that counts; raises NoPolicy."""
        with self._database.write() as connection:
            _locked(connection, arn)
            mine = (VERSIONS.c.policy == arn) & (VERSIONS.c.number == _number(arn, version))
            if connection.scalar(select(VERSIONS.c.number).where(mine)) is None:
                raise NoPolicy(f"{arn} {version}")
            connection.execute(update(POLICIES).where(POLICIES.c.arn == arn).values(default=version, updated=now))
