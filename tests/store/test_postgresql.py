"""PostgreSQL beside SQLite: its tables by the same steps, one writer at a time, and a reader's still view."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Connection, Executable, func, insert, inspect, make_url, select, text
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from outcrop.errors import OutcropError, ServiceUnavailableException
from outcrop.migrations import behind, migrate, opened, visited
from outcrop.store.database import PATIENCE, Database, metadata
from outcrop.store.jobs import JOBS, JobStore
from outcrop.store.listing import Cursor, Listing, page_of
from outcrop.store.models import MODEL_NAMES, MODELS
from outcrop.store.refusals import NameTaken, OverQuota
from outcrop.store.tags import TAGS, TagStore
from outcrop.store.throughputs import THROUGHPUTS, ThroughputStore
from tests.store import postgresql
from tests.store.resources import REGION, at, job, throughput

DIALECT = dialect()  # type: ignore[no-untyped-call]


@pytest.fixture
def fresh(postgresql_url: str) -> Iterator[Database]:
    """A PostgreSQL schema with every table, as a server's first start makes it."""
    database = opened(postgresql_url)
    yield database
    database.close()


def test_tables_compile_for_postgresql() -> None:
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=DIALECT))


def test_a_list_compiles_for_postgresql() -> None:
    listing = Listing(
        equals={"status": "Failed"},
        name_contains="x",
        created_after=at(0),
        created_before=at(9),
        after=Cursor(at(3), "arn:x"),
    )
    for table in (JOBS, MODELS, THROUGHPUTS):
        statement = str(page_of(table, REGION, listing).compile(dialect=DIALECT))
        assert "LIKE" not in statement
        assert "LIMIT" in statement


def test_the_steps_lead_to_the_tables_that_the_code_expects(fresh: Database) -> None:
    with fresh.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_other_databases_are_refused_by_their_name() -> None:
    with pytest.raises(OutcropError, match="mysql databases are not known here: use SQLite or PostgreSQL"):
        Database("mysql://nobody@nowhere/x")


def waits(connection: Connection) -> bool:
    """Whether some other connection waits for its turn to write."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return bool(connection.execute(text(waiting)).scalar_one())


def meanwhile(database: Database, change: Executable, act: Callable[[], object]) -> list[str]:
    """Act in another thread while a writer is about to make a change; how the act ended."""
    ends: list[str] = []

    def go() -> None:
        try:
            act()
        except OverQuota:
            ends.append("over the quota")
        else:
            ends.append("kept")

    thread = threading.Thread(target=go)
    with database.write() as first:
        thread.start()
        while thread.is_alive() and not waits(first):
            time.sleep(0.005)
        first.execute(change)
    thread.join()
    return ends


def test_units_that_two_create_at_once_stay_within_the_quota(fresh: Database) -> None:
    store, other = ThroughputStore(fresh), throughput(1)
    row = {name: getattr(other, name) for name in type(other).__dataclass_fields__}
    change = insert(THROUGHPUTS).values(**row, fingerprint="")
    assert meanwhile(fresh, change, lambda: store.add(throughput(2), quota=1)) == ["over the quota"]
    assert [kept.arn for kept in store.wanted()] == [other.arn]


def test_tags_that_two_put_at_once_stay_within_the_limit(fresh: Database) -> None:
    store, change = TagStore(fresh), insert(TAGS).values(arn="a", key="1", value="")
    assert meanwhile(fresh, change, lambda: store.put("a", [{"key": "2", "value": ""}], 1)) == ["over the quota"]
    assert store.of("a") == [{"key": "1", "value": ""}]


def test_a_name_that_two_take_at_once_is_told_to_the_later_as_taken(fresh: Database) -> None:
    store, change = JobStore(fresh), insert(MODEL_NAMES).values(region=REGION, name="model-1", holder="another")
    refused: list[NameTaken] = []

    def add() -> None:
        try:
            store.add(job(1), None, "")
        except NameTaken as fault:
            refused.append(fault)

    meanwhile(fresh, change, add)
    assert [(fault.member, fault.name) for fault in refused] == [("customModelName", "model-1")]


def test_a_reader_sees_one_moment(fresh: Database) -> None:
    tags, count = TagStore(fresh), select(func.count()).select_from(TAGS)
    with fresh.read() as connection:
        assert connection.execute(count).scalar_one() == 0
        tags.put("a", [{"key": "1", "value": ""}], 50)
        assert connection.execute(count).scalar_one() == 0
    with fresh.read() as connection:
        assert connection.execute(count).scalar_one() == 1


def test_nothing_is_written_through_a_read(fresh: Database) -> None:
    with fresh.read() as connection, pytest.raises(DBAPIError, match="read-only transaction"):
        connection.execute(insert(TAGS).values(arn="a", key="1", value=""))
    TagStore(fresh).put("a", [{"key": "1", "value": ""}], 50)


def test_one_server_at_a_time_holds_a_schema(fresh: Database, postgresql_server: URL) -> None:
    fresh.claim()
    second, third = Database(fresh.url), Database(fresh.url)
    try:
        with pytest.raises(OutcropError, match="another outcrop server already uses this database"):
            second.claim(patience=0.0)
        with postgresql.schema(postgresql_server) as url:
            other = Database(url)
            other.claim(patience=0.0)
            other.close()
        # It is waited for: whoever comes back after a kill is not refused for what the dead one still seems to hold.
        threading.Timer(0.3, fresh.close).start()
        second.claim(patience=60.0)
        with pytest.raises(OutcropError):
            third.claim(patience=0.0)
    finally:
        second.close()
        third.close()


def test_a_database_that_another_server_holds_is_not_even_migrated(postgresql_url: str) -> None:
    first = Database(postgresql_url)
    first.claim()
    try:
        with pytest.raises(OutcropError, match="another outcrop server already uses this database"):
            opened(postgresql_url, claim=0.0)
        assert inspect(first.engine).get_table_names() == []
    finally:
        first.close()
    second = opened(postgresql_url, claim=60.0)
    assert inspect(second.engine).get_table_names()
    second.close()


def test_a_command_changes_no_tables_under_a_server_and_holds_them_no_longer_than_it_must(postgresql_url: str) -> None:
    server = Database(postgresql_url)
    server.claim()
    try:
        with pytest.raises(OutcropError, match=r"older outcrop's tables.*another outcrop server already uses"):
            visited(postgresql_url, nullcontext)
        assert behind(server)
    finally:
        server.close()
    deadline = time.monotonic() + 60.0
    while True:  # a closed connection is free when PostgreSQL has seen that
        try:
            command = visited(postgresql_url, nullcontext)
            break
        except OutcropError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    try:
        assert not behind(command)
        opened(postgresql_url, claim=60.0).close()
    finally:
        command.close()


def test_no_password_is_told(postgresql_url: str) -> None:
    database = opened(make_url(postgresql_url).set(password="secret").render_as_string(hide_password=False))
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OutcropError, match="newer outcrop") as told:
        migrate(database)
    assert "secret" not in str(told.value)
    database.close()


def test_no_request_is_lost_to_dropped_connections_and_the_claim_is_taken_again(fresh: Database) -> None:
    tags, second = TagStore(fresh), Database(fresh.url)
    fresh.claim()
    try:
        for act in (lambda: tags.put("a", [{"key": "1", "value": ""}], 50), lambda: tags.of("a")):
            tags.of("a")
            postgresql.cut(fresh.url)
            act()
            with pytest.raises(OutcropError, match="another outcrop server already uses this database"):
                second.claim(patience=0.0)
    finally:
        second.close()
    assert tags.of("a") == [{"key": "1", "value": ""}]


def test_whoever_lost_the_database_to_another_server_writes_nothing_more(fresh: Database) -> None:
    tags, second = TagStore(fresh), Database(fresh.url)
    fresh.claim()
    try:
        postgresql.cut(fresh.url)
        second.claim(patience=60.0)
        for _ in range(2):
            with pytest.raises(ServiceUnavailableException, match="Another server has taken the database over"):
                tags.put("a", [{"key": "1", "value": ""}], 50)
        assert tags.of("a") == []
        TagStore(second).put("a", [{"key": "2", "value": ""}], 50)
    finally:
        second.close()
    deadline = time.monotonic() + 60
    while True:
        try:
            tags.put("a", [{"key": "1", "value": ""}], 50)
            break
        except ServiceUnavailableException:  # PostgreSQL takes a moment to see that a connection is closed
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [tag["key"] for tag in tags.of("a")] == ["1", "2"]


def test_a_writer_that_waits_too_long_says_so(fresh: Database) -> None:
    with fresh.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == f"{PATIENCE // 1000}s"
