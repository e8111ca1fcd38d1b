"""IAM roles with their inline policies, attachments and tags, as the store keeps them. Decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

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
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from outcrop.store.database import Database, Instant, metadata

ROLES: Final = Table(
    "roles",
    metadata,
    # IAM's names keep their case but are unique without it.
    Column("key", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("id", String(32), nullable=False),
    Column("arn", String(2048), nullable=False),
    Column("path", String(512), nullable=False),
    Column("trust", Text, nullable=False),
    Column("description", Text),
    Column("max_session_seconds", Integer, nullable=False),
    Column("boundary", String(2048)),
    Column("tags", JSON, nullable=False),
    Column("created", Instant, nullable=False),
)
INLINE: Final = Table(
    "role_policies",
    metadata,
    Column("role", String(64), ForeignKey("roles.key"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
)
ATTACHMENTS: Final = Table(
    "role_attachments",
    metadata,
    Column("role", String(64), ForeignKey("roles.key"), primary_key=True),
    Column("policy", String(2048), primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Role:
    """An IAM role."""

    name: str
    id: str
    """AROA…"""
    arn: str
    path: str
    trust: str
    """The document that says who may assume it."""
    created: datetime
    description: str | None = None
    max_session_seconds: int = 3600
    boundary: str | None = None
    """ARN of the policy beyond which its own policies count nothing."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rights:
    """All that a role's policies name, read at one moment."""

    role: Role
    documents: tuple[str, ...]
    """Inline policies."""
    attached: tuple[str, ...]
    """ARNs of managed policies."""


class NoRole(Exception):
    """There is no role of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class RoleInUse(Exception):
    """A role that still has policies cannot be deleted; the message says which kind."""


class TooMuch(Exception):
    """A limit would be passed; it is the exception's argument."""


def _key(connection: Connection, name: str) -> str:
    """The key of an existing role, which stays locked until the transaction ends; raises NoRole."""
    query = select(ROLES.c.key).where(ROLES.c.key == name.lower())
    key = connection.scalar(query)
    if key is None:
        raise NoRole(name)
    return str(key)


def _find(connection: Connection, name: str) -> Role | None:
    row = connection.execute(select(ROLES).where(ROLES.c.key == name.lower())).first()
    if row is None:
        return None
    values = row._asdict()
    del values["key"]
    return Role(**values)


def _one(connection: Connection, name: str) -> Role:
    role = _find(connection, name)
    if role is None:
        raise NoRole(name)
    return role


class RoleStore:
    """The verbs of roles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, role: Role, policies: Mapping[str, str] | None = None) -> bool:
        """Keep a new role, with inline policies if it has any; False where the name is taken."""
        values = {name: getattr(role, name) for name in Role.__dataclass_fields__}
        try:
            with self._database.write() as connection:
                connection.execute(insert(ROLES).values(key=role.name.lower(), **values))
                for name, document in (policies or {}).items():
                    connection.execute(insert(INLINE).values(role=role.name.lower(), name=name, document=document))
        except IntegrityError:
            return False
        return True

    def find(self, name: str) -> Role | None:
        """The role of that name, in whatever case."""
        with self._database.read() as connection:
            return _find(connection, name)

    def page(self, prefix: str, after: str, limit: int) -> list[Role]:
        """Up to `limit` roles under a path prefix whose keys (lower-case names) follow `after`, in that order."""
        query = select(ROLES.c.name).where(ROLES.c.key > after, ROLES.c.path.startswith(prefix, autoescape=True))
        with self._database.read() as connection:
            names = connection.scalars(query.order_by(ROLES.c.key).limit(limit)).all()
            return [_one(connection, name) for name in names]

    def change(self, name: str, **columns: Any) -> Role:
        """Set columns of a role (trust, description, max_session_seconds, boundary); raises NoRole."""
        with self._database.write() as connection:
            key = _key(connection, name)
            connection.execute(update(ROLES).where(ROLES.c.key == key).values(**columns))
            return _one(connection, name)

    def tag(self, name: str, add: Mapping[str, str], remove: Sequence[str], most: int) -> Role:
        """Set and drop tags; raises NoRole, and TooMuch beyond `most` tags."""
        with self._database.write() as connection:
            key = _key(connection, name)
            tags = tagged(_one(connection, name).tags, add, remove)
            if len(tags) > most:
                raise TooMuch(most)
            connection.execute(update(ROLES).where(ROLES.c.key == key).values(tags=tags))
            return _one(connection, name)

    def delete(self, name: str) -> None:
        """Drop a role; raises NoRole, and RoleInUse while it has policies."""
        with self._database.write() as connection:
            key = _key(connection, name)
            if connection.scalar(select(ATTACHMENTS.c.policy).where(ATTACHMENTS.c.role == key).limit(1)) is not None:
                raise RoleInUse("must detach all policies first")
            if connection.scalar(select(INLINE.c.name).where(INLINE.c.role == key).limit(1)) is not None:
                raise RoleInUse("must delete policies first")
            connection.execute(delete(ROLES).where(ROLES.c.key == key))

    def put_policy(self, name: str, policy: str, document: str, most: int) -> None:
        """Set an inline policy; raises NoRole, and TooMuch where all of them pass `most` characters but white space."""
        with self._database.write() as connection:
            key = _key(connection, name)
            mine = (INLINE.c.role == key) & (INLINE.c.name == policy)
            others = connection.scalars(select(INLINE.c.document).where(INLINE.c.role == key, INLINE.c.name != policy))
            if sum(size(text) for text in (document, *others)) > most:
                raise TooMuch(most)
            connection.execute(delete(INLINE).where(mine))
            connection.execute(insert(INLINE).values(role=key, name=policy, document=document))

    def delete_policy(self, name: str, policy: str) -> bool:
        """Drop an inline policy; False where there is none; raises NoRole."""
        with self._database.write() as connection:
            key = _key(connection, name)
            gone = connection.execute(delete(INLINE).where(INLINE.c.role == key, INLINE.c.name == policy))
            return gone.rowcount == 1

    def policies(self, name: str) -> dict[str, str]:
        """A role's inline policies by name, sorted; raises NoRole."""
        with self._database.read() as connection:
            _one(connection, name)
            query = (
                select(INLINE.c.name, INLINE.c.document).where(INLINE.c.role == name.lower()).order_by(INLINE.c.name)
            )
            return {row.name: row.document for row in connection.execute(query)}

    def attach(self, name: str, policy: str, most: int) -> None:
        """Attach a managed policy, again without effect; raises NoRole, and TooMuch beyond `most` of them."""
        with self._database.write() as connection:
            key = _key(connection, name)
            attached = set(connection.scalars(select(ATTACHMENTS.c.policy).where(ATTACHMENTS.c.role == key)))
            if policy in attached:
                return
            if len(attached) >= most:
                raise TooMuch(most)
            connection.execute(insert(ATTACHMENTS).values(role=key, policy=policy))

    def detach(self, name: str, policy: str) -> bool:
        """Detach a managed policy; False where it was not attached; raises NoRole."""
        with self._database.write() as connection:
            key = _key(connection, name)
            mine = (ATTACHMENTS.c.role == key) & (ATTACHMENTS.c.policy == policy)
            return connection.execute(delete(ATTACHMENTS).where(mine)).rowcount == 1

    def attached(self, name: str) -> list[str]:
        """ARNs of a role's managed policies, sorted; raises NoRole."""
        return sorted(self.rights(name).attached)

    def rights(self, name: str) -> Rights:
        """A role with the documents and ARNs of all its policies; raises NoRole."""
        with self._database.read() as connection:
            role, key = _one(connection, name), name.lower()
            inline = connection.scalars(select(INLINE.c.document).where(INLINE.c.role == key))
            attached = connection.scalars(select(ATTACHMENTS.c.policy).where(ATTACHMENTS.c.role == key))
            return Rights(role=role, documents=tuple(inline), attached=tuple(attached))

    def with_policy(self, policy: str) -> list[Role]:
        """The roles to which a managed policy is attached, sorted by name."""
        query = select(ATTACHMENTS.c.role).where(ATTACHMENTS.c.policy == policy).order_by(ATTACHMENTS.c.role)
        with self._database.read() as connection:
            return [_one(connection, key) for key in connection.scalars(query).all()]

    def attachment_counts(self) -> dict[str, int]:
        """How many roles each managed policy is attached to; unattached ones are absent."""
        query = select(ATTACHMENTS.c.policy, func.count()).group_by(ATTACHMENTS.c.policy)
        with self._database.read() as connection:
            return {policy: count for policy, count in connection.execute(query)}  # noqa: C416 (typed as a row else)

    def boundary_counts(self) -> dict[str, int]:
        """How many roles each managed policy bounds; others are absent."""
        query = select(ROLES.c.boundary, func.count()).where(ROLES.c.boundary.is_not(None)).group_by(ROLES.c.boundary)
        with self._database.read() as connection:
            return {policy: count for policy, count in connection.execute(query)}  # noqa: C416 (typed as a row else)


def size(document: str) -> int:
    """What IAM counts of a document: its characters but white space."""
    return len("".join(document.split()))


def tagged(tags: Mapping[str, str], add: Mapping[str, str], remove: Sequence[str]) -> dict[str, str]:
    """Tags after a change; keys are unique without their case, and the newer spelling stays."""
    gone = {key.lower() for key in (*add, *remove)}
    return {key: value for key, value in tags.items() if key.lower() not in gone} | dict(add)
