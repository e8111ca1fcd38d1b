"""The store's verbs about buckets, objects and uploads, where the API's tests do not reach: races, pages, blobs."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.objects.records import Blob, Bucket, MultipartUpload, StoredObject
from outcrop.store.buckets import BucketStore
from outcrop.store.database import Database
from outcrop.store.objects import ObjectStore
from outcrop.store.pages import Bound, Query, gather, successor
from outcrop.store.uploads import UploadStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def database() -> Iterator[Database]:
    made = Database("sqlite://")
    made.create()
    BucketStore(made).create(Bucket("bucket", "us-east-1", NOW), lambda _old: None)
    yield made
    made.close()


def stored(key: str, name: str = "") -> StoredObject:
    return StoredObject(name or f"id-{key}", "bucket", key, 1, "e" * 32, NOW, "CRC32", "AAAAAA==")


def blob(name: str, number: int = 1) -> Blob:
    return Blob(name, 1, "e" * 32, NOW, number, "AAAAAA==")


def anything(_bucket: Bucket | None, _old: StoredObject | None) -> None:
    """A check that lets everything through."""


def test_a_check_that_raises_changes_nothing(database: Database) -> None:
    objects = ObjectStore(database)
    objects.put(stored("k", "first"), [blob("b1")], anything)

    class Refusal(Exception):
        pass

    def refuse(bucket: Bucket | None, old: StoredObject | None) -> None:
        assert bucket is not None
        assert old is not None
        assert old.id == "first"
        raise Refusal

    with pytest.raises(Refusal):
        objects.put(stored("k", "second"), [blob("b2")], refuse)
    with pytest.raises(Refusal):
        objects.delete("bucket", ["k"], refuse)
    found = objects.find("bucket", "k")
    assert found is not None
    assert (found[0].id, [one.id for one in found[1]]) == ("first", ["b1"])
    assert objects.known(["b1", "b2"]) == {"b1"}


def test_replacing_and_deleting_tell_the_blobs_that_are_free(database: Database) -> None:
    objects = ObjectStore(database)
    assert objects.put(stored("k", "first"), [blob("b2", 2), blob("b1", 1)], anything) == []
    found = objects.find("bucket", "k")
    assert found is not None
    assert [one.id for one in found[1]] == ["b1", "b2"]
    assert sorted(objects.put(stored("k", "second"), [blob("b3")], anything)) == ["b1", "b2"]
    assert objects.delete("bucket", ["none", "k"], anything) == ["b3"]
    assert objects.known(["b1", "b2", "b3"]) == set()


def test_a_bucket_that_is_gone_takes_no_object(database: Database) -> None:
    seen = []
    BucketStore(database).delete("bucket", lambda bucket, held: seen.append((bucket is not None, held)))
    assert seen == [(True, False)]

    def check(bucket: Bucket | None, _old: StoredObject | None) -> None:
        assert bucket is None
        raise LookupError

    with pytest.raises(LookupError):
        ObjectStore(database).put(stored("k"), [blob("b")], check)


def test_an_upload_keeps_its_id_as_an_object(database: Database) -> None:
    objects, uploads = ObjectStore(database), UploadStore(database)
    upload = MultipartUpload("up", "bucket", "k", NOW, "CRC32", "COMPOSITE", declared=True)
    uploads.create(upload, anything)
    assert uploads.get("bucket", "other", "up") is None
    assert uploads.put_part(upload, blob("b1", 1)) == []
    assert uploads.put_part(upload, blob("b2", 2)) == []
    assert uploads.put_part(upload, blob("b3", 1)) == ["b1"]
    objects.put(stored("k", "old"), [blob("b0")], anything)

    def choose(
        begun: MultipartUpload, parts: Sequence[Blob], old: StoredObject | None
    ) -> tuple[StoredObject, Sequence[Blob]]:
        assert begun == upload
        assert [part.id for part in parts] == ["b3", "b2"]
        assert old is not None
        return stored("k", "up"), parts[1:]

    done = uploads.complete("bucket", "k", "up", choose)
    assert done is not None
    assert (done[0].id, sorted(done[1])) == ("up", ["b0", "b3"])
    found = objects.find("bucket", "k")
    assert found is not None
    assert (found[0].id, [one.id for one in found[1]]) == ("up", ["b2"])
    assert uploads.get("bucket", "k", "up") is None
    assert uploads.complete("bucket", "k", "up", choose) is None
    assert uploads.put_part(upload, blob("b9")) is None
    assert uploads.abort("bucket", "k", "up") is None


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db'}"
    database = Database(url)
    database.create()
    buckets = BucketStore(database)
    buckets.create(Bucket("bucket", "eu-west-1", NOW, tags={"a": "b"}), lambda _old: None)
    buckets.set_policy("bucket", "{}")
    ObjectStore(database).put(stored("日本"), [blob("b1")], anything)
    database.close()
    again = Database(url)
    assert BucketStore(again).get("bucket") == Bucket("bucket", "eu-west-1", NOW, policy="{}", tags={"a": "b"})
    assert ObjectStore(again).find("bucket", "日本") == (stored("日本"), [blob("b1")])
    again.close()


KEY = st.text(st.sampled_from("ab/\u007f\u0080é\ud7ff\ue000\uffff\U0001f600\U0010ffff"), min_size=1, max_size=6)


def plainly(keys: list[str], query: Query) -> list[str]:
    """What a list gives in all, computed the slow way."""
    found: list[str] = []
    for key in sorted(keys):
        if not key.startswith(query.prefix):
            continue
        end = key.find(query.delimiter, len(query.prefix)) if query.delimiter else -1
        entry = key if end < 0 else key[: end + len(query.delimiter)]
        if entry not in found:
            found.append(entry)
    return found


@given(
    st.sets(KEY, max_size=25),
    st.text(st.sampled_from("ab/\U0010ffff"), max_size=2),
    st.sampled_from(["", "/", "ab", "\U0010ffff"]),
    st.integers(1, 4),
)
def test_pages_in_a_row_are_the_whole_list(keys: set[str], prefix: str, delimiter: str, limit: int) -> None:
    ordered = sorted(keys)

    def fetch(bound: Bound, count: int) -> list[str]:
        end = successor(prefix)
        return [
            key
            for key in ordered
            if (key >= bound.key if bound.inclusive else key > bound.key) and (end is None or key < end)
        ][:count]

    got: list[str] = []
    after: str | None = ""
    while after is not None:
        page = gather(fetch, str, Query(prefix, delimiter, after, limit))
        entries = sorted([*page.entries, *page.prefixes])
        assert len(entries) == limit or page.last is None
        assert page.last in (None, entries[-1] if entries else None)
        got += entries
        after = page.last
    assert got == plainly(ordered, Query(prefix, delimiter))


def test_the_store_orders_keys_as_utf8_does(database: Database) -> None:
    objects = ObjectStore(database)
    keys = ["a", "B", "é", "日", "\uffee", "😀", "a%", "a_", "ab"]
    for key in random.sample(keys, len(keys)):
        objects.put(stored(key), [], anything)
    page = objects.list("bucket", Query())
    assert [one.key for one in page.entries] == sorted(keys, key=str.encode)
    # The wildcards of SQL's LIKE are plain characters in a prefix, and case counts.
    assert [one.key for one in objects.list("bucket", Query(prefix="a%")).entries] == ["a%"]
    assert [one.key for one in objects.list("bucket", Query(prefix="A")).entries] == []


def test_the_successor_of_a_prefix() -> None:
    assert successor("a") == "b"
    assert successor("a\U0010ffff") == "b"
    assert successor("\U0010ffff") is None
    assert successor("") is None
    assert successor("\ud7ff") == "\ue000"


def test_buckets_by_prefix_take_no_wildcards(database: Database) -> None:
    buckets = BucketStore(database)
    buckets.create(Bucket("b-cket", "us-east-1", NOW), lambda _old: None)
    names = [one.name for one in buckets.list(prefix="b_c", region=None, after="", limit=10)]
    assert names == []
