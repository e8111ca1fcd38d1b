"""The statements in PostgreSQL's own dialect: nothing in the tables or the lists is SQLite's alone."""

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from outcrop.store.jobs import JOBS
from outcrop.store.listing import Cursor, Listing, page_of
from outcrop.store.models import MODEL_NAMES, MODELS, WEIGHTS
from outcrop.store.tags import TAGS
from outcrop.store.throughputs import THROUGHPUTS
from tests.store.resources import REGION, at

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def test_tables_compile_for_postgresql() -> None:
    for table in (JOBS, MODELS, MODEL_NAMES, WEIGHTS, TAGS, THROUGHPUTS):
        assert "PRIMARY KEY" in str(CreateTable(table).compile(dialect=DIALECT))


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
