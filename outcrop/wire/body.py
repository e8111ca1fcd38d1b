"""Request bodies on their way in: to memory under a limit, or (S3) to a spool file in bounded memory, verified.

Knows bytes, digests and the aws-chunked encoding; not which operation they are for. Whatever goes wrong on the way (a
wrong digest, a broken signature, a caller who leaves, a full disk), no file stays behind.
"""

import asyncio
import base64
import hashlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from outcrop.errors import ServiceError
from outcrop.wire import checksums
from outcrop.wire.chunked import ChunkDecoder
from outcrop.wire.refusals import refuse
from outcrop.wire.sigv4 import UNSIGNED, Proof

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

BATCH: Final = 1024 * 1024
"""Bytes gathered before a hand-over to the disk thread: large enough that the hand-over costs nothing."""

STREAMING: Final = "STREAMING-"

_CHUNKED: Final[Mapping[str, tuple[bool, bool]]] = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
}
"""The streaming words of x-amz-content-sha256 -> (chunks are signed, a trailer follows)."""


class CallerGone(Exception):
    """The caller closed the connection before its request was whole; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that lies, whole and verified, in a spool file.

    `path` is on disk (fsynced); who is given it may rename it into place, otherwise the gateway removes it. `size` in
    bytes. `checksums`: algorithm in AWS's upper case -> base64, for what the client declared, or CRC64NVME.
    """

    path: Path
    size: int
    md5: bytes
    sha256: bytes
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Bytes of a file to send: `length` of them from where `file` stands. The gateway closes the file."""

    file: BinaryIO
    length: int


@dataclass(frozen=True, slots=True)
class Promise:
    """What the head of an S3 request says its body will be; `Intake` holds it to that."""

    payload: str = UNSIGNED
    """The payload line of the signature: a hex SHA-256, or one of the words."""
    proof: Proof | None = None
    size: int | None = None
    """The decoded length, if the head tells it."""
    md5: bytes | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    promised: tuple[str, ...] = ()


def promise(headers: Mapping[str, str], payload: str, proof: Proof | None, *, checksummed: bool) -> Promise:
    """Return what an S3 request's headers promise of its body. Raises ServiceError where they contradict themselves.

    `checksummed`: the x-amz-checksum- headers are about this body (CompleteMultipartUpload's are about the object).
    """
    if payload.startswith(STREAMING) and payload not in _CHUNKED:
        raise ServiceError("The value of x-amz-content-sha256 header is invalid.", code="InvalidArgument")
    given, promised = checksums.declared(headers) if checksummed else ({}, ())
    if promised and not _CHUNKED.get(payload, (False, False))[1]:
        raise ServiceError("x-amz-trailer needs a body with a trailer.", code="InvalidRequest")
    told = headers.get("x-amz-decoded-content-length") if payload in _CHUNKED else headers.get("content-length")
    if told is not None and not (told.isascii() and told.isdigit() and len(told) < 20):
        raise ServiceError("The content length is not a number.", code="InvalidArgument")
    if told is None and payload in _CHUNKED:
        raise missing_length()
    size = None if told is None else int(told)
    return Promise(payload, proof, size, checksums.content_md5(headers), given, promised)


def missing_length() -> ServiceError:
    """S3's answer to a body of untold length."""
    return ServiceError("You must provide the Content-Length HTTP header.", code="MissingContentLength", status=411)


class Intake:
    """One body on its way in: decodes, measures, hashes; `finish()` says whether it was what its head promised."""

    def __init__(self, told: Promise, write: Callable[[bytes], object], limit: int, too_large: ServiceError) -> None:
        self._told, self._write, self._limit, self._too_large = told, write, limit, too_large
        signed, trailer = _CHUNKED.get(told.payload, (False, False))
        names = [checksums.PREFIX + each.lower() for each in told.promised]
        self._decoder = (
            ChunkDecoder(told.proof if signed else None, names, has_trailer=trailer)
            if told.payload in _CHUNKED
            else None
        )
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        wanted = (*told.given, *told.promised) or (checksums.DEFAULT,)
        self._running = {name: checksums.ALGORITHMS[name]() for name in wanted}

    def feed(self, data: bytes) -> None:
        """Take the next bytes as they came; raises ServiceError once the body cannot be right."""
        for piece in self._decoder.feed(data) if self._decoder else (data,):
            self.size += len(piece)
            if self.size > self._limit:
                raise self._too_large
            if self._told.size is not None and self.size > self._told.size:
                raise _wrong_length()
            self._sha256.update(piece)
            self._md5.update(piece)
            for digest in self._running.values():
                digest.update(piece)
            self._write(piece)

    def finish(self) -> tuple[bytes, bytes, dict[str, str]]:
        """Return (md5, sha256, checksums) of a body that holds to everything its head promised; else raise."""
        if self._decoder:
            self._decoder.finish()
        if self._told.size is not None and self.size != self._told.size:
            raise _wrong_length()
        md5, sha256 = self._md5.digest(), self._sha256.digest()
        if self._told.payload != UNSIGNED and self._told.payload not in _CHUNKED:
            self._check_payload(sha256.hex())
        if self._told.md5 is not None and self._told.md5 != md5:
            shown: dict[str, Any] = {
                "ExpectedDigest": self._told.md5.hex(),
                "CalculatedDigest": base64.b64encode(md5).decode(),
            }
            raise ServiceError(
                "The Content-MD5 you specified did not match what we received.", code="BadDigest", **shown
            )
        computed = {name: base64.b64encode(each.digest()).decode() for name, each in self._running.items()}
        claimed = dict(self._told.given)
        for name in self._told.promised:
            assert self._decoder is not None
            claimed[name] = self._decoder.trailers[checksums.PREFIX + name.lower()]
            checksums.check_form(name, claimed[name])
        for name, value in claimed.items():
            checksums.compare(name, value, computed[name])
        return md5, sha256, computed

    def _check_payload(self, computed: str) -> None:
        if computed != self._told.payload:
            shown = {"ClientComputedContentSHA256": self._told.payload, "S3ComputedContentSHA256": computed}
            raise refuse("rest-xml", "payload-mismatch", **shown)


def _wrong_length() -> ServiceError:
    return ServiceError(
        "You did not provide the number of bytes specified by the Content-Length HTTP header", code="IncompleteBody"
    )


async def read(receive: Receive, told: Promise, limit: int, too_large: ServiceError) -> bytes:
    """Return the whole decoded body; raises `too_large` past `limit` bytes, CallerGone when it ends early."""
    held = bytearray()
    intake = Intake(told, held.extend, limit, too_large)
    more = True
    while more:
        data, more = await _next(receive)
        if data:
            intake.feed(data)
    intake.finish()
    return bytes(held)


async def read_raw(receive: Receive, limit: int, too_large: ServiceError) -> bytes:
    """Return the body as it came, before anything is known of it."""
    held = bytearray()
    more = True
    while more:
        data, more = await _next(receive)
        held += data
        if len(held) > limit:
            raise too_large
    return bytes(held)


async def spool(
    receive: Receive, told: Promise, directory: Path, pool: Executor, *, limit: int, too_large: ServiceError
) -> Upload:
    """Write the body to a new file in `directory` while it arrives, and return it verified and fsynced.

    Disk and hashes run in `pool`, at most about 1 MiB at a time is held. On any fault the file is removed.
    """
    loop = asyncio.get_running_loop()
    descriptor, name = await loop.run_in_executor(pool, lambda: tempfile.mkstemp(prefix="upload-", dir=directory))
    path, whole = Path(name), False
    file = os.fdopen(descriptor, "wb", buffering=0)
    try:
        intake = Intake(told, lambda data: _write_all(file, data), limit, too_large)
        held: list[bytes] = []
        size, more = 0, True
        while more:
            data, more = await _next(receive)
            held.append(data)
            size += len(data)
            if size >= BATCH or not more:
                await loop.run_in_executor(pool, intake.feed, b"".join(held))
                held, size = [], 0
        md5, sha256, sums = intake.finish()
        await loop.run_in_executor(pool, os.fsync, file.fileno())
        whole = True
        return Upload(path, intake.size, md5, sha256, sums)
    finally:
        file.close()
        if not whole:
            path.unlink()


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerGone
    return message.get("body", b""), bool(message.get("more_body", False))
