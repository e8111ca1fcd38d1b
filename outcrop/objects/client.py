"""s3:// in and out for child processes, over boto3 and any S3: the embedded one or another, as the environment says.

Knows URIs, files and patience; nothing of jobs or of who the server is. Endpoint, region and credentials come from the
environment as for any AWS client. A server that restarts is waited for; an answer that says no is an error at once.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  # botocore's own, which is not Python's
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from outcrop.errors import OutcropError

Result = TypeVar("Result")

Told = Callable[[int, int], None]
"""Hears of bytes that came, and how many the object has in all."""

PATIENCE: Final = 150.0
"""Seconds that an unreachable server is waited for: a restart takes up to about two minutes."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
PIECE: Final = 1 << 20
"""Bytes read at a time."""

PASSING: Final = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "500", "502", "503"})
"""Answers that another try may turn into good ones."""

UNREACHABLE: Final = (ConnectionError, HTTPClientError, ReadTimeoutError, ResponseStreamingError, IncompleteReadError)
"""What botocore raises while a server is away or goes away in the middle of an answer."""


class StorageError(OutcropError):
    """Object storage did not do what it was asked; the message names the URI and storage's own words."""


class StorageAway(StorageError):
    """Nobody answered, or only with passing errors, for as long as the client is patient."""


class StorageRefused(StorageError):
    """Storage answered no: another try gets the same answer."""


class ObjectMissing(StorageRefused):
    """The key holds nothing."""


class BucketMissing(StorageRefused):
    """There is no such bucket."""


class ObjectChanged(StorageRefused):
    """The object was written anew while it was read."""


class AccessRefused(StorageRefused):
    """The credentials have no right to do this, or none at all any more."""


class ChecksumRefused(StorageRefused):
    """The object's bytes are not those that their checksum told of."""


class BucketElsewhere(AccessRefused):
    """The bucket is in another region than the client's: a job reads and writes in its own region only."""


class CredentialsExpired(AccessRefused):
    """The credentials were good and have run out; fresh ones may do the same."""


ELSEWHERE: Final = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "301"})
"""Answers that name another region; boto3 by itself would follow them there."""

ANSWERS: Final[dict[str, type[StorageRefused]]] = {
    "NoSuchKey": ObjectMissing,
    "404": ObjectMissing,
    "NotFound": ObjectMissing,
    "NoSuchBucket": BucketMissing,
    "PreconditionFailed": ObjectChanged,
    "BadDigest": ChecksumRefused,
    "AccessDenied": AccessRefused,
    "403": AccessRefused,
    "InvalidAccessKeyId": AccessRefused,
    "SignatureDoesNotMatch": AccessRefused,
    "ExpiredToken": CredentialsExpired,
    "InvalidToken": AccessRefused,
    **dict.fromkeys(ELSEWHERE, BucketElsewhere),
}


FALSE_MD5: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
"""Of nothing that anybody knows; least of all of no bytes."""


@dataclass(frozen=True, slots=True)
class S3Uri:
    """s3://bucket/key; the key may be empty or end in a slash."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, text: str) -> "S3Uri":
        """Read a URI; raises ValueError for anything else."""
        scheme, _, rest = text.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise ValueError(f"not an S3 URI: {text!r}")
        return cls(bucket, key)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it."""

    key: str
    size: int
    etag: str


class ObjectClient:
    """Objects by their URIs.

    patience: seconds that an unreachable server is waited for, counted anew after every success. clock, sleep: seconds.
    """

    def __init__(
        self,
        client: Any | None = None,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # A session of its own: boto3's shared one would keep the credentials of whoever asked first.
        self._client = client or connected(boto3.session.Session())
        self._patience, self._clock, self._sleep = patience, clock, sleep

    def size(self, uri: str) -> int | None:
        """Bytes of an object; None when the key holds nothing. Raises StorageRefused where that may not be asked."""
        place = S3Uri.parse(uri)

        def ask() -> int:
            return int(self._client.head_object(Bucket=place.bucket, Key=place.key)["ContentLength"])

        try:
            return self._patiently(ask, uri)
        except ObjectMissing:
            return None

    def entries(self, uri: str) -> list[Entry]:
        """Every object whose key begins with the URI's key, in the order of keys."""
        place, found, token = S3Uri.parse(uri), [], ""
        while True:

            def ask(token: str = token) -> Any:
                more = {"ContinuationToken": token} if token else {}
                return self._client.list_objects_v2(Bucket=place.bucket, Prefix=place.key, **more)

            page = self._patiently(ask, uri)
            found += [Entry(one["Key"], one["Size"], one["ETag"].strip('"')) for one in page.get("Contents", ())]
            token = page.get("NextContinuationToken", "")
            if not token:
                return found

    def read(self, uri: str, told: Told = lambda *_: None) -> Iterator[bytes]:
        """An object's bytes in pieces, each told of before it is given.

        A connection that breaks is taken up where it broke; raises ObjectChanged if the object is another one by then.
        """
        place, at, etag, size = S3Uri.parse(uri), 0, "", -1
        deadline = self._clock() + self._patience
        while at != size:

            def get(start: int = at, known: str = etag) -> Any:
                more = {"Range": f"bytes={start}-", "IfMatch": known} if start else {}
                return self._client.get_object(Bucket=place.bucket, Key=place.key, **more)

            answer = self._patiently(get, uri)
            etag, size = answer["ETag"], at + answer["ContentLength"]
            try:
                with closing(answer["Body"]) as body:
                    while data := body.read(PIECE):
                        at += len(data)
                        told(len(data), size)
                        yield data
                        deadline = self._clock() + self._patience
            except UNREACHABLE as fault:
                # Whoever answers and then breaks off, again and again without a byte, must not be asked for ever.
                if self._clock() + FIRST_PAUSE > deadline:
                    raise StorageAway(f"{uri}: broke off for {self._patience:.0f} seconds: {fault}") from fault
                self._sleep(FIRST_PAUSE)
            except BotoCoreError as fault:
                raise _refusal(fault, uri) from fault

    def download(self, uri: str, path: Path, told: Told = lambda *_: None) -> None:
        """Write an object's bytes to a file, whole or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                for data in self.read(uri, told):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def put(self, uri: str, content: bytes) -> None:
        """Write an object of these bytes."""
        place = S3Uri.parse(uri)
        self._patiently(lambda: self._client.put_object(Bucket=place.bucket, Key=place.key, Body=content), uri)

    def try_put(self, uri: str) -> None:
        """Raise what writing an empty object would be refused with; nothing is written.

        It is written with a checksum that cannot be true: storage asks for the right, then refuses the bytes. Storage
        that looks at no checksum has an empty object there afterwards.
        """
        place = S3Uri.parse(uri)
        with contextlib.suppress(ChecksumRefused):
            self._patiently(
                lambda: self._client.put_object(Bucket=place.bucket, Key=place.key, Body=b"", ContentMD5=FALSE_MD5),
                uri,
            )

    def upload(self, path: Path, uri: str) -> None:
        """Write an object of a file's bytes, in parts where it is large."""
        place = S3Uri.parse(uri)
        # In this thread alone: the caller's process has work for every core.
        transfer = TransferConfig(use_threads=False)
        self._patiently(lambda: self._client.upload_file(str(path), place.bucket, place.key, Config=transfer), uri)

    def _patiently(self, action: Callable[[], Result], uri: str) -> Result:
        """Do it, again and again while nobody answers; raises StorageAway or StorageRefused."""
        deadline, pause = self._clock() + self._patience, FIRST_PAUSE
        while True:
            try:
                return action()
            except (BotoCoreError, ClientError, S3UploadFailedError) as fault:
                cause = _cause(fault)
                if not _passes(cause):
                    raise _refusal(cause, uri) from fault
                if self._clock() + pause > deadline:
                    raise StorageAway(f"{uri}: no answer for {self._patience:.0f} seconds: {cause}") from fault
            self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def connected(session: boto3.session.Session, endpoint: str | None = None, *, direct: bool = False) -> Any:
    """boto3's client as ObjectClient needs it, of a session's credentials and region.

    endpoint: None: as the environment says. direct: past any proxy that the environment names.
    """
    # botocore's own tries are few, as it cannot be told to wait minutes for a refused connection.
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 2},
        connect_timeout=10,
        read_timeout=60,
        proxies={} if direct else None,
    )
    client = session.client("s3", config=config, endpoint_url=endpoint)
    client.meta.events.register_first("needs-retry.s3", _stay)
    return client


def cannot_get(uri: str, reason: OutcropError) -> OutcropError:
    """A job's failure over an input that it may not read or that is not there, in AWS's words (facts 5.4)."""
    place = S3Uri.parse(uri)
    return OutcropError(
        f"Could not validate GetObject permissions to access Amazon S3 bucket: {place.bucket} at key {place.key} "
        f"({reason})"
    )


def cannot_put(prefix: str, reason: OutcropError) -> OutcropError:
    """A job's failure over an output prefix that it may not write under, in AWS's words (facts 5.4)."""
    place = S3Uri.parse(prefix)
    # AWS's text says .tmp where the object that really is written ends in .temp (facts 13).
    return OutcropError(
        "Amazon S3 perms missing (PutObject): Could not validate PutObject permissions to access S3 bucket: "
        f"{place.bucket} at key {place.key}.write_access_check_file.tmp ({reason})"
    )


def _stay(response: tuple[Any, dict[str, Any]] | None, operation: Any, **_: Any) -> None:
    """Refuse to follow a bucket into its region, before botocore's own redirector does."""
    answer = response[1] if response is not None else {}
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    code = answer.get("Error", {}).get("Code", "")
    # A HEAD has no body to name its error in, only the status and the header.
    if code in ELSEWHERE or (code == "400" and "x-amz-bucket-region" in headers):
        there = headers.get("x-amz-bucket-region", "another region")
        error = {"Code": "PermanentRedirect", "Message": f"the bucket is in {there}, the job is not"}
        raise ClientError({"Error": error}, operation.name)


def _cause(fault: BaseException) -> BaseException:
    """What is behind boto3's wrapping of a failed upload."""
    inner: BaseException | None = fault.__context__ if isinstance(fault, S3UploadFailedError) else None
    return inner or fault


def _passes(fault: BaseException) -> bool:
    """Whether another try may go better."""
    if isinstance(fault, ClientError):
        return fault.response.get("Error", {}).get("Code") in PASSING
    return isinstance(fault, UNREACHABLE)


def _refusal(fault: BaseException, uri: str) -> StorageRefused:
    """The error that says what storage said."""
    if not isinstance(fault, ClientError):
        return StorageRefused(f"{uri}: {fault}")
    error = fault.response.get("Error", {})
    code = error.get("Code", "")
    return ANSWERS.get(code, StorageRefused)(f"{uri}: {code}: {error.get('Message', '')}")
