"""The database as every noun's store uses it."""

import errno
from pathlib import Path

import pytest

from outcrop.store.database import Database
from outcrop.store.jobs import JobStore
from tests.store.resources import REGION, job


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/outcrop.db")
    database.create()
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    # SQLite's own bound gives the very fault that a full disk does.
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    store, tried = JobStore(database), []

    def fill() -> None:
        for number in range(10_000):
            tried.append(job(number))
            store.add(tried[-1], None, "")

    with pytest.raises(OSError, match="disk is full") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    assert store.find(REGION, tried[-1].name) is None
    assert len(store.unfinished()) == len(tried) - 1
    database.close()
