"""What an invocation names, looked up past SQLAlchemy: the same records, as of now, and nothing is held afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.errors import MustWait
from outcrop.store.database import Database
from outcrop.store.throughputs import ThroughputStore
from tests.store import postgresql
from tests.store.resources import REGION, at, throughput

ELSEWHERE = "eu-west-1"
ODD = """it's "odd" %s %(region)s :name ?"""


@pytest.fixture
def two(database: Database) -> Iterator[tuple[ThroughputStore, ThroughputStore]]:
    """A server's throughputs, and those of another process over the same database; one in memory has no other."""
    other = database if database.url == "sqlite://" else Database(database.url)
    yield ThroughputStore(database), ThroughputStore(other)
    if other is not database:
        other.close()


def test_a_name_and_an_arn_find_what_sqlalchemy_reads(throughputs: ThroughputStore) -> None:
    plain = throughputs.add(throughput(1))
    full = throughputs.add(throughput(2, commitment="OneMonth", commitment_ends=at(99), failure="naïve ☃"))
    for each in (plain, full):
        assert throughputs.find(REGION, each.name) == throughputs.find(REGION, each.arn) == each
        assert throughputs.by_arn(each.arn) == each


def test_another_region_or_name_finds_nothing(throughputs: ThroughputStore) -> None:
    made = throughputs.add(throughput())
    assert throughputs.find(ELSEWHERE, made.name) is None
    assert throughputs.find(ELSEWHERE, made.arn) is None
    for unknown in ("", "pt", made.id, made.arn[:-1], ODD, "%"):
        assert throughputs.find(REGION, unknown) is None
    odd = throughputs.add(throughput(2, name=ODD))
    assert throughputs.find(REGION, ODD) == odd


def test_what_another_process_does_counts_at_once(two: tuple[ThroughputStore, ThroughputStore]) -> None:
    here, there = two
    assert here.find(REGION, "pt-1") is None
    made = there.add(throughput())
    assert here.find(REGION, "pt-1") == made
    there.in_service(made.arn, at(10))
    renamed = there.update_asked(made.arn, name="other", model_arn=None, now=at(11))
    assert here.find(REGION, "pt-1") is None
    assert here.find(REGION, "other") == here.find(REGION, made.arn) == renamed
    there.delete(made.arn, at(12))
    assert here.find(REGION, made.arn) is None


def test_no_look_at_a_file_is_left_open(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/outcrop.db")
    database.create()
    throughputs = ThroughputStore(database)
    throughputs.add(throughput())
    assert throughputs.find(REGION, "pt-1") is not None
    other = Database(database.url)
    with other.engine.connect() as connection:
        # A reader that still looks keeps the log from being emptied: the first column says that it was.
        assert connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0] == 0
    other.close()
    database.close()


def test_a_glance_sees_what_find_sees_or_says_that_it_would_wait(
    two: tuple[ThroughputStore, ThroughputStore], database: Database
) -> None:
    here, there = two
    made = there.add(throughput())
    if database.url.startswith("sqlite:///"):
        assert here.glance(REGION, "pt-1") == here.glance(REGION, made.arn) == made
        there.delete(made.arn, at(10))
        assert here.glance(REGION, "pt-1") is None
        with database.write():  # writers keep nobody waiting
            assert here.glance(REGION, "pt-1") is None
    else:
        with pytest.raises(MustWait):
            here.glance(REGION, "pt-1")


def test_a_glance_does_not_wait_for_whoever_holds_all_of_a_file(tmp_path: Path) -> None:
    holder = Database(f"sqlite:///{tmp_path}/outcrop.db")
    holder.create()
    with holder.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA locking_mode = EXCLUSIVE")
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        database = Database(holder.url)
        with pytest.raises(MustWait):
            ThroughputStore(database).glance(REGION, "pt-1")
        database.close()
        connection.rollback()
    holder.close()


def test_dropped_connections_lose_no_question(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    database.create()
    throughputs = ThroughputStore(database)
    made = throughputs.add(throughput())
    database.claim()
    for _ in range(2):
        assert throughputs.find(REGION, "pt-1") == made
        postgresql.cut(postgresql_url)
    assert throughputs.find(REGION, made.arn) == made
    database.close()
