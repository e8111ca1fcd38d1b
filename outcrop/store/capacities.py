"""What engines were measured to do: tokens a minute, by weights and machine."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Column, Integer, String, Table, delete, insert, select

from outcrop.store.database import Database, Instant, metadata

CAPACITIES: Final = Table(
    "capacities",
    metadata,
    Column("weights", String, primary_key=True),
    Column("machine", String, primary_key=True),
    Column("tokens_per_minute", Integer, nullable=False),
    Column("measured", Instant, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """One measurement."""

    tokens_per_minute: int
    """Of prompts and answers together, with several callers at once."""
    measured: datetime


class CapacityStore:
    """Every question and change about measurements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, weights: str, machine: str) -> Capacity | None:
        """The measurement of an engine over this folder of weights on this machine."""
        same = CAPACITIES.c.weights == weights, CAPACITIES.c.machine == machine
        with self._database.read() as connection:
            row = connection.execute(select(CAPACITIES).where(*same)).first()
        return Capacity(row.tokens_per_minute, row.measured) if row else None

    def put(self, weights: str, machine: str, found: Capacity) -> None:
        """Keep a measurement in place of an older one."""
        same = CAPACITIES.c.weights == weights, CAPACITIES.c.machine == machine
        with self._database.write() as connection:
            connection.execute(delete(CAPACITIES).where(*same))
            connection.execute(
                insert(CAPACITIES).values(
                    weights=weights,
                    machine=machine,
                    tokens_per_minute=found.tokens_per_minute,
                    measured=found.measured,
                )
            )
