"""The children's S3 client against a real server: whole files, streams, restarts in the middle, and what says no."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ResponseStreamingError

from outcrop.objects.client import (
    AccessRefused,
    BucketMissing,
    ObjectChanged,
    ObjectClient,
    ObjectMissing,
    S3Uri,
    StorageAway,
    StorageRefused,
)
from tests.api.s3.server import S3Server

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that tests may kill; it comes back on its port, with its data."""
    running = S3Server(tmp_path_factory.mktemp("client") / "data").start()
    running.client().create_bucket(Bucket="bucket")
    yield running
    running.close()


@pytest.fixture
def client(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectClient:
    """A client that knows the server by its environment only."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return ObjectClient(patience=30)


def test_files_go_and_come_whole(client: ObjectClient, tmp_path: Path) -> None:
    for size in (0, 10, 9 * MEGABYTE):
        content = os.urandom(size)
        (tmp_path / "out").write_bytes(content)
        client.upload(tmp_path / "out", f"s3://bucket/dir/{size}")
        heard: list[tuple[int, int]] = []
        client.download(f"s3://bucket/dir/{size}", tmp_path / "in", lambda *told, heard=heard: heard.append(told))
        assert (tmp_path / "in").read_bytes() == content
        assert sum(count for count, _ in heard) == size
        assert {total for _, total in heard} <= {size}
        assert client.size(f"s3://bucket/dir/{size}") == size
    assert client.size("s3://bucket/dir/1") is None
    client.put("s3://bucket/small", b"bytes")
    assert b"".join(client.read("s3://bucket/small")) == b"bytes"


def test_what_says_no_says_it_at_once(client: ObjectClient, server: S3Server, tmp_path: Path) -> None:
    client = ObjectClient(patience=30, sleep=lambda seconds: pytest.fail(f"it waits for {seconds} s"))
    with pytest.raises(ObjectMissing, match=r"s3://bucket/none: NoSuchKey: The specified key does not exist\."):
        client.download("s3://bucket/none", tmp_path / "in")
    with pytest.raises(BucketMissing, match="NoSuchBucket"):
        client.put("s3://no-such-bucket/k", b"")
    (tmp_path / "out").write_bytes(b"1")
    with pytest.raises(BucketMissing, match="NoSuchBucket"):
        client.upload(tmp_path / "out", "s3://no-such-bucket/k")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/no/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    server.client().put_bucket_policy(Bucket="bucket", Policy=policy)
    with pytest.raises(AccessRefused, match="AccessDenied"):
        client.download("s3://bucket/no/k", tmp_path / "in")
    with pytest.raises(AccessRefused):
        client.size("s3://bucket/no/k")
    assert not (tmp_path / "in").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_wrong_keys_are_refused(client: ObjectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AccessRefused, match="SignatureDoesNotMatch"):
        ObjectClient().put("s3://bucket/k", b"")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")
    with pytest.raises(AccessRefused, match="InvalidAccessKeyId"):
        ObjectClient().put("s3://bucket/k", b"")


def test_a_restart_is_waited_for(client: ObjectClient, server: S3Server, tmp_path: Path) -> None:
    client.put("s3://bucket/k", b"before")
    (tmp_path / "out").write_bytes(b"after")
    server.end(signal.SIGKILL)
    again = threading.Timer(1.5, server.start)
    again.start()
    client.upload(tmp_path / "out", "s3://bucket/new")
    again.join()
    client.download("s3://bucket/k", tmp_path / "in")
    assert (tmp_path / "in").read_bytes() == b"before"
    assert b"".join(client.read("s3://bucket/new")) == b"after"


def test_a_read_goes_on_where_a_restart_broke_it(client: ObjectClient, server: S3Server, tmp_path: Path) -> None:
    content = os.urandom(32 * MEGABYTE)
    (tmp_path / "out").write_bytes(content)
    client.upload(tmp_path / "out", "s3://bucket/big")
    heard: list[tuple[int, int]] = []
    reading = client.read("s3://bucket/big", lambda *told: heard.append(told))
    got = [next(reading)]
    server.end(signal.SIGKILL)
    server.start()
    got += reading
    assert b"".join(got) == content
    assert heard == [(len(piece), len(content)) for piece in got], "what came before the break is told once"


def test_a_read_does_not_go_on_in_another_object(client: ObjectClient, server: S3Server) -> None:
    client.put("s3://bucket/big", bytes(32 * MEGABYTE))
    reading = client.read("s3://bucket/big")
    next(reading)
    server.end(signal.SIGKILL)
    server.start()
    client.put("s3://bucket/big", b"1" * (32 * MEGABYTE))
    with pytest.raises(ObjectChanged):
        list(reading)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def unanswered() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", unanswered())
    (tmp_path / "out").write_bytes(b"")
    # botocore's own pause between its two tries is real; ours is the clock's.
    clock = Clock()
    client = ObjectClient(patience=20, clock=clock, sleep=clock.sleep)
    with pytest.raises(StorageAway, match="s3://bucket/k: no answer for 20 seconds"):
        client.put("s3://bucket/k", b"")
    assert 15 < clock.now <= 20
    with pytest.raises(StorageAway):
        client.upload(tmp_path / "out", "s3://bucket/k")


class Broken:
    """A body that breaks off before its first byte, each time it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def get_object(self, **_asked: Any) -> dict[str, Any]:
        self.asked += 1
        return {"ETag": '"e"', "ContentLength": 10, "Body": self}

    def read(self, _size: int) -> bytes:
        raise ResponseStreamingError(error="gone")

    def close(self) -> None:
        """Nothing to close."""


def test_a_body_that_always_breaks_is_given_up() -> None:
    clock, broken = Clock(), Broken()
    client = ObjectClient(broken, patience=5, clock=clock, sleep=clock.sleep)
    with pytest.raises(StorageAway, match="broke off"):
        list(client.read("s3://bucket/k"))
    assert broken.asked > 10


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [("s3://b/k", "b", "k"), ("s3://b", "b", ""), ("s3://b/", "b", ""), ("s3://b/a/b/", "b", "a/b/")],
)
def test_uris(text: str, bucket: str, key: str) -> None:
    assert S3Uri.parse(text) == S3Uri(bucket, key)


@pytest.mark.parametrize("text", ["", "b/k", "http://b/k", "s3:///k", "s3:/b/k"])
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(ValueError, match="not an S3 URI"):
        S3Uri.parse(text)


def test_every_refusal_is_a_refusal() -> None:
    assert all(issubclass(one, StorageRefused) for one in (ObjectMissing, BucketMissing, AccessRefused, ObjectChanged))
    assert not issubclass(StorageAway, StorageRefused)


def test_whether_an_object_could_be_written_is_found_out_without_writing(
    client: ObjectClient, server: S3Server
) -> None:
    client.try_put("s3://bucket/tried/new")
    assert client.size("s3://bucket/tried/new") is None
    client.put("s3://bucket/tried/old", b"old")
    client.try_put("s3://bucket/tried/old")
    assert b"".join(client.read("s3://bucket/tried/old")) == b"old"
    with pytest.raises(BucketMissing):
        client.try_put("s3://no-such-bucket/k")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket/tried/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    server.client().put_bucket_policy(Bucket="bucket", Policy=policy)
    try:
        with pytest.raises(AccessRefused, match="AccessDenied"):
            client.try_put("s3://bucket/tried/new")
    finally:
        server.client().delete_bucket_policy(Bucket="bucket")
