"""Whole journeys: boto3's transfers, presigned URLs, the AWS CLI, kill -9 in the middle, a role's own rights."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from outcrop.objects.disk import Disk
from outcrop.store.database import Database
from outcrop.store.objects import ObjectStore
from tests.api.s3.conftest import Refused
from tests.api.s3.server import S3Server

MEGABYTE = 1 << 20


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def random_file(path: Path, megabytes: int) -> Path:
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MEGABYTE))
    return path


@pytest.mark.slow
def test_200_mb_come_back_as_they_went(client: Any, server: S3Server, bucket: str, tmp_path: Path) -> None:
    sent = random_file(tmp_path / "sent", 200)
    client.upload_file(str(sent), bucket, "big")
    head = client.head_object(Bucket=bucket, Key="big")
    assert (head["ContentLength"], head["ETag"][-4:]) == (200 * MEGABYTE, '-25"')
    client.download_file(bucket, "big", str(tmp_path / "got"))
    assert digest(tmp_path / "got") == digest(sent)
    # In one piece too, and without the server ever holding it.
    with sent.open("rb") as file:
        client.put_object(Bucket=bucket, Key="one", Body=file)
    assert client.head_object(Bucket=bucket, Key="one")["ContentLength"] == 200 * MEGABYTE
    for one in (sent, tmp_path / "got"):
        one.unlink()
    status = Path(f"/proc/{server.pid}/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    assert peak < 300 * 1024, "kilobytes"
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "big"}, {"Key": "one"}]})


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls(server: S3Server, bucket: str, version: str) -> None:
    signer = server.client(signature_version=version)
    put = signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "dir/a b+.txt"})
    assert httpx.put(put, content=b"by URL").status_code == 200
    get = signer.generate_presigned_url(
        "get_object",
        Params={
            "Bucket": bucket,
            "Key": "dir/a b+.txt",
            "ResponseContentType": "text/plain",
            "ResponseContentDisposition": 'attachment; filename="a.txt"',
        },
    )
    answer = httpx.get(get)
    assert (answer.status_code, answer.content) == (200, b"by URL")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-disposition"] == 'attachment; filename="a.txt"'
    assert httpx.get(get, headers={"Range": "bytes=3-"}).content == b"URL"
    head = signer.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "dir/a b+.txt"})
    assert httpx.head(head).headers["content-length"] == "6"
    delete = signer.generate_presigned_url("delete_object", Params={"Bucket": bucket, "Key": "dir/a b+.txt"})
    assert httpx.delete(delete).status_code == 204
    assert httpx.get(get).status_code == 404
    # What was signed for one thing is not good for another.
    assert httpx.get(put).status_code == 403
    assert httpx.put(put.replace("dir", "other"), content=b"").status_code == 403


def test_parts_by_presigned_urls(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    url = client.generate_presigned_url("upload_part", Params={**where, "PartNumber": 1})
    etag = httpx.put(url, content=b"by URL").headers["etag"]
    (part,) = client.list_parts(**where)["Parts"]
    assert part["ETag"] == etag
    named = {"PartNumber": 1, "ETag": etag, "ChecksumCRC32": part["ChecksumCRC32"]}
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": [named]})
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"by URL"


def test_requests_follow_each_other_on_one_connection(server: S3Server, bucket: str, refused: Refused) -> None:
    """botocore takes the status of an answer to an unneeded 100-continue for that of the connection's next request."""
    client = server.client(retries={"total_max_attempts": 1}, read_timeout=60)
    for key in ("a", "b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
        client.put_object(Bucket=bucket, Key=key, Body=b"1")
        refused(404, "NoSuchBucket", client.put_object, Bucket="no-such-bucket", Key=key, Body=b"")
        client.put_object(Bucket=bucket, Key=key, Body=b"2")
        refused(412, "PreconditionFailed", client.put_object, Bucket=bucket, Key=key, Body=b"3", IfNoneMatch="*")
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"2"


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[S3Server]:
    """A server of this test's own, with a bucket."""
    running = S3Server(tmp_path / "data").start()
    running.client().create_bucket(Bucket="bucket")
    yield running
    running.close()


def files(server: S3Server, folder: str) -> set[str]:
    return {path.name for path in (server.root / folder).rglob("*") if path.is_file()}


def test_nothing_half_written_survives_a_kill(mortal: S3Server, tmp_path: Path) -> None:
    """kill -9 in the middle of an upload: what was answered is there, the rest is not, and no file is left over."""
    client = mortal.client(retries={"total_max_attempts": 1})
    client.put_object(Bucket="bucket", Key="big", Body=b"the old one")
    before = files(mortal, "buckets")
    sent = random_file(tmp_path / "sent", 64)
    with sent.open("rb") as file, killed(mortal, lambda: any(files(mortal, "spool"))), pytest.raises(HTTPClientError):
        client.put_object(Bucket="bucket", Key="big", Body=file)
    mortal.start()
    assert client.get_object(Bucket="bucket", Key="big")["Body"].read() == b"the old one"
    assert files(mortal, "buckets") == before
    client.put_object(Bucket="bucket", Key="big", Body=b"the new one")
    assert client.get_object(Bucket="bucket", Key="big")["Body"].read() == b"the new one"


@contextmanager
def killed(server: S3Server, when: Callable[[], bool]) -> Iterator[None]:
    """Inside it the server is killed as soon as `when()`."""

    def watch() -> None:
        deadline = time.monotonic() + 20
        while not when() and time.monotonic() < deadline:
            time.sleep(0.001)
        server.end(signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("after", [0.05, 0.15, 0.3])
def test_every_answered_write_survives_a_kill(mortal: S3Server, after: float) -> None:
    """Small writes as fast as they go, and a kill at any moment: each object is the last answered one or later."""
    client = mortal.client(retries={"total_max_attempts": 1})
    answered: dict[str, int] = {}
    tried: dict[str, int] = {}
    started = time.monotonic()
    with killed(mortal, lambda: time.monotonic() - started > after):
        for number in range(100_000):
            key = f"k{number % 7}"
            tried[key] = number
            try:
                client.put_object(Bucket="bucket", Key=key, Body=b"%d" % number)
            except BotoCoreError:
                break
            answered[key] = number
    mortal.start()
    listed = {one["Key"]: one for one in client.list_objects_v2(Bucket="bucket").get("Contents", [])}
    for key, number in answered.items():
        got = int(client.get_object(Bucket="bucket", Key=key)["Body"].read())
        assert number <= got <= tried[key]
        assert listed[key]["ETag"] == f'"{hashlib.md5(b"%d" % got).hexdigest()}"'
    # Each file on disk belongs to an object: the start swept the others.
    assert len(files(mortal, "buckets")) == len(listed)


def test_an_upload_goes_on_after_a_kill(mortal: S3Server) -> None:
    client = mortal.client()
    where = {"Bucket": "bucket", "Key": "k"}
    where["UploadId"] = client.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")["UploadId"]
    first, second = os.urandom(5 * MEGABYTE), b"end"
    told = [client.upload_part(**where, PartNumber=1, Body=first)]
    mortal.end(signal.SIGKILL)
    mortal.start()
    told.append(client.upload_part(**where, PartNumber=2, Body=second))
    parts = [
        {"PartNumber": number, "ETag": one["ETag"], "ChecksumCRC32": one["ChecksumCRC32"]}
        for number, one in enumerate(told, 1)
    ]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    mortal.end(signal.SIGKILL)
    mortal.start()
    assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == first + second


def test_the_sweep_leaves_everything_that_is_named(mortal: S3Server) -> None:
    client = mortal.client()
    client.put_object(Bucket="bucket", Key="k", Body=b"1")
    upload = client.create_multipart_upload(Bucket="bucket", Key="u")["UploadId"]
    client.upload_part(Bucket="bucket", Key="u", UploadId=upload, PartNumber=1, Body=b"2")
    mortal.end()
    stray = mortal.root / "buckets" / "aa" / ("a" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    database = Database(f"sqlite:///{mortal.root / 'outcrop.db'}")
    assert Disk(mortal.root / "buckets").sweep(ObjectStore(database)) == 1
    database.close()
    assert len(files(mortal, "buckets")) == 2
    mortal.start()
    assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == b"1"


def test_a_disk_that_takes_no_more_says_so(tmp_path: Path, refused: Refused) -> None:
    """A limit of the size of files stands in for a full disk: writing fails in the middle of a copy."""
    server = S3Server(tmp_path / "data").start()
    try:
        client = server.client(retries={"total_max_attempts": 1})
        client.create_bucket(Bucket="bucket")
        where = {"Bucket": "bucket", "Key": "big"}
        client.upload_file(str(random_file(tmp_path / "sent", 12)), "bucket", "big")
        before = files(server, "buckets")
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (10 * MEGABYTE, resource.RLIM_INFINITY))
        # A multipart source is written anew, which goes over the limit.
        refused(500, "InternalError", client.copy_object, Bucket="bucket", Key="copy", CopySource=where)
        assert files(server, "buckets") == before
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        client.copy_object(Bucket="bucket", Key="copy", CopySource=where)
        assert len(files(server, "buckets")) == len(before) + 1
    finally:
        server.close()


class Cli:
    """The AWS CLI, in a shell after `outcrop env`."""

    def __init__(self, server: S3Server, folder: Path) -> None:
        # Without a home the CLI reads no configuration of this machine's.
        self._environment = {**server.environment, "HOME": str(folder), "AWS_PAGER": ""}
        self._folder = folder

    def __call__(self, *words: str, fails: bool = False) -> str:
        program = Path(sys.executable).with_name("aws")
        done = subprocess.run(
            [sys.executable, str(program), *words],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout


@pytest.mark.slow
def test_the_aws_cli(server: S3Server, bucket: str, tmp_path: Path) -> None:
    aws = Cli(server, tmp_path)
    folder = tmp_path / "tree"
    for name, content in (("a.txt", b"a"), ("dir/b.txt", b"bb"), ("dir/deep/日本.txt", b"ccc"), ("empty", b"")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    random_file(folder / "big", 20)
    for one in folder.rglob("*"):
        # S3 keeps whole seconds: a file written and sent in the same one looks newer than its object.
        os.utime(one, (1_700_000_000, 1_700_000_000))
    aws("s3", "sync", str(folder), f"s3://{bucket}/tree")
    listed = aws("s3", "ls", "--recursive", f"s3://{bucket}/")
    assert [line.split(None, 3)[2:] for line in listed.splitlines()] == [
        ["1", "tree/a.txt"],
        ["20971520", "tree/big"],
        ["2", "tree/dir/b.txt"],
        ["3", "tree/dir/deep/日本.txt"],
        ["0", "tree/empty"],
    ]
    # Nothing changed, nothing is sent.
    assert aws("s3", "sync", str(folder), f"s3://{bucket}/tree") == ""
    aws("s3", "sync", f"s3://{bucket}/tree", str(tmp_path / "back"))
    assert digest(tmp_path / "back" / "big") == digest(folder / "big")
    assert (tmp_path / "back/dir/deep/日本.txt").read_bytes() == b"ccc"
    aws("s3", "mv", f"s3://{bucket}/tree/a.txt", f"s3://{bucket}/moved.txt")
    (folder / "a.txt").unlink()
    (folder / "big").unlink()
    assert aws("s3", "sync", "--delete", str(folder), f"s3://{bucket}/tree").split() == [
        "delete:",
        f"s3://{bucket}/tree/big",
    ]
    url = aws("s3", "presign", f"s3://{bucket}/moved.txt").strip()
    assert httpx.get(url).content == b"a"
    assert "NoSuchBucket" in aws("s3", "ls", "s3://no-such-bucket-at-all", fails=True)
    aws("s3", "rb", "--force", f"s3://{bucket}")
    assert bucket not in aws("s3", "ls")


def test_what_boto3s_resources_do(server: S3Server, client: Any, bucket: str) -> None:
    """The verbs of boto3's resource model, which notebooks use."""
    session = boto3.Session(
        aws_access_key_id=server.told["access_key"],
        aws_secret_access_key=server.told["secret"],
        region_name="us-east-1",
    )
    s3 = session.resource("s3", endpoint_url=server.endpoint, config=Config(retries={"total_max_attempts": 1}))
    mine = s3.Bucket(bucket)
    assert mine.creation_date is not None
    mine.put_object(Key="a/1", Body=b"1")
    s3.Object(bucket, "a/2").put(Body=b"22")
    assert [(one.key, one.size) for one in mine.objects.filter(Prefix="a/")] == [("a/1", 1), ("a/2", 2)]
    mine.copy({"Bucket": bucket, "Key": "a/2"}, "b")
    assert s3.Object(bucket, "b").get()["Body"].read() == b"22"
    s3.Object(bucket, "b").wait_until_exists()
    with pytest.raises(ClientError):
        s3.Object(bucket, "none").load()
    mine.objects.filter(Prefix="a/").delete()
    assert [one.key for one in mine.objects.all()] == ["b"]
    # How Terraform and many notebooks empty a bucket.
    mine.object_versions.delete()
    mine.delete()
    mine.wait_until_not_exists()
