"""What alembic runs for each command: the steps over the connection that it was given."""

from typing import Any, Literal

from alembic import context

from outcrop.store.database import Instant, metadata


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own column type as the plain one beneath it, so that a step stays true when the type's code changes."""
    return "sa.BigInteger()" if kind == "type" and isinstance(item, Instant) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a table in place; alembic copies it.
    render_as_batch=True,
    # The caller's transaction is the only one.
    transactional_ddl=False,
    render_item=render,
)
context.run_migrations()
