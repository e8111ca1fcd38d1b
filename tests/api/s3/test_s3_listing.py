"""Lists of objects through boto3: order, prefixes, delimiters, pages, markers, encodings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from outcrop.objects.naming import owner_id
from tests.api.s3.conftest import Refused
from tests.api.s3.server import ACCOUNT, S3Server

KEYS = ["0", "a/1", "a/2/x", "a/2/y", "a/b", "b", "c/", "c/1", "d%20 +&<>/1", "e\u0301", "é", "\uffee", "𝄞"]
"""In the order of their UTF-8 bytes."""


@pytest.fixture(scope="module")
def listed(server: S3Server) -> Iterator[tuple[Any, str]]:
    """A client and a bucket with KEYS in it."""
    client, name = server.client(), f"test-{uuid4().hex[:20]}"
    client.create_bucket(Bucket=name)
    for key in reversed(KEYS):
        client.put_object(Bucket=name, Key=key, Body=key.encode())
    yield client, name
    client.close()


def keys(answer: dict[str, Any]) -> list[str]:
    return [one["Key"] for one in answer.get("Contents", [])]


def prefixes(answer: dict[str, Any]) -> list[str]:
    return [one["Prefix"] for one in answer.get("CommonPrefixes", [])]


def test_keys_come_in_the_order_of_their_bytes(listed: tuple[Any, str]) -> None:
    client, name = listed
    assert sorted(KEYS, key=str.encode) == KEYS
    assert keys(client.list_objects_v2(Bucket=name)) == KEYS
    assert keys(client.list_objects(Bucket=name)) == KEYS


@pytest.mark.parametrize(
    ("prefix", "delimiter", "found", "grouped"),
    [
        ("", "/", ["0", "b", "e\u0301", "é", "\uffee", "𝄞"], ["a/", "c/", "d%20 +&<>/"]),
        ("a/", "/", ["a/1", "a/b"], ["a/2/"]),
        ("a", "/", [], ["a/"]),
        ("c/", "/", ["c/", "c/1"], []),
        ("a/2", "", ["a/2/x", "a/2/y"], []),
        ("a/", "2/", ["a/1", "a/b"], ["a/2/"]),
        ("none", "/", [], []),
        ("", "𝄞", KEYS[:-1], ["𝄞"]),
    ],
)
def test_prefix_and_delimiter(
    listed: tuple[Any, str], *, prefix: str, delimiter: str, found: list[str], grouped: list[str]
) -> None:
    client, name = listed
    for operation in (client.list_objects, client.list_objects_v2):
        answer = operation(Bucket=name, Prefix=prefix, Delimiter=delimiter)
        assert (keys(answer), prefixes(answer)) == (found, grouped)
        assert answer["IsTruncated"] is False
    assert answer["KeyCount"] == len(found) + len(grouped)


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2", "list_object_versions"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("", "/"), ("a/", "/"), ("c/", "")])
def test_pages_of_any_size_make_the_same_list(
    listed: tuple[Any, str], *, operation: str, size: int, prefix: str, delimiter: str
) -> None:
    client, name = listed
    paginator = client.get_paginator(operation)
    asked = {"Bucket": name, "Prefix": prefix, "Delimiter": delimiter}

    def both(page: dict[str, Any]) -> list[str]:
        return [one["Key"] for one in page.get("Contents", page.get("Versions", []))] + prefixes(page)

    pages = list(paginator.paginate(**asked, PaginationConfig={"PageSize": size}))
    (one,) = paginator.paginate(**asked)
    assert sorted(both(one)) == sorted(entry for page in pages for entry in both(page))
    assert all(0 < len(both(page)) <= size for page in pages)
    assert [page["IsTruncated"] for page in pages] == [True] * (len(pages) - 1) + [False]


def test_a_list_goes_on_behind_any_text(listed: tuple[Any, str]) -> None:
    client, name = listed
    assert keys(client.list_objects_v2(Bucket=name, StartAfter="a/2/x"))[0] == "a/2/y"
    assert keys(client.list_objects_v2(Bucket=name, StartAfter="a/2/xa"))[0] == "a/2/y"
    assert keys(client.list_objects(Bucket=name, Marker="bbb"))[0] == "c/"
    assert keys(client.list_objects_v2(Bucket=name, StartAfter="𝄞")) == []
    assert client.list_objects_v2(Bucket=name, StartAfter="b")["StartAfter"] == "b"
    # A common prefix as the marker stands for all that it stood for.
    answer = client.list_objects(Bucket=name, Marker="a/", Delimiter="/", MaxKeys=1)
    assert (keys(answer), prefixes(answer)) == (["b"], [])
    # A token outweighs StartAfter.
    first = client.list_objects_v2(Bucket=name, MaxKeys=1)
    more = client.list_objects_v2(Bucket=name, ContinuationToken=first["NextContinuationToken"], StartAfter="z")
    assert keys(more) == KEYS[1:]
    assert more["ContinuationToken"] == first["NextContinuationToken"]


def test_what_entries_tell(listed: tuple[Any, str]) -> None:
    client, name = listed
    entry = client.list_objects_v2(Bucket=name, FetchOwner=True)["Contents"][0]
    head = client.head_object(Bucket=name, Key="0")
    assert (entry["ETag"], entry["LastModified"], entry["Size"]) == (head["ETag"], head["LastModified"], 1)
    assert (entry["StorageClass"], entry["Owner"]["ID"]) == ("STANDARD", owner_id(ACCOUNT))
    assert "Owner" not in client.list_objects_v2(Bucket=name)["Contents"][0]
    assert client.list_objects(Bucket=name)["Contents"][0]["Owner"]["ID"] == owner_id(ACCOUNT)
    version = client.list_object_versions(Bucket=name)["Versions"][0]
    assert (version["VersionId"], version["IsLatest"]) == ("null", True)


def test_next_marker_comes_with_a_delimiter_only(listed: tuple[Any, str]) -> None:
    client, name = listed
    assert "NextMarker" not in client.list_objects(Bucket=name, MaxKeys=2)
    assert client.list_objects(Bucket=name, MaxKeys=2, Delimiter="/")["NextMarker"] == "a/"
    assert client.list_objects(Bucket=name, MaxKeys=1, Delimiter="/")["NextMarker"] == "0"


def test_numbers_and_words_out_of_bounds(listed: tuple[Any, str], refused: Refused) -> None:
    client, name = listed
    none = client.list_objects_v2(Bucket=name, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"], none["MaxKeys"]) == (0, False, 0)
    assert client.list_objects_v2(Bucket=name, MaxKeys=5000)["MaxKeys"] == 1000
    error = refused(400, "InvalidArgument", client.list_objects_v2, Bucket=name, MaxKeys=-1)
    assert error["Message"] == "Argument maxKeys must be an integer between 0 and 2147483647"
    error = refused(400, "InvalidArgument", client.list_objects_v2, Bucket=name, ContinuationToken="not a token")
    assert error["Message"] == "The continuation token provided is incorrect"


def test_eleven_hundred_keys_come_in_two_pages(server: S3Server, client: Any, bucket: str) -> None:
    want = [f"many/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b""), want))
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [len(page["Contents"]) for page in pages] == [1000, 100]
    assert [one["Key"] for page in pages for one in page["Contents"]] == want
    assert prefixes(client.list_objects_v2(Bucket=bucket, Delimiter="/")) == ["many/"]
    told = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in want[:1000]]})
    assert len(told["Deleted"]) == 1000
    assert keys(client.list_objects_v2(Bucket=bucket)) == want[1000:]
