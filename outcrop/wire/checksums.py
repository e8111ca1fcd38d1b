"""The checksums a client may send with a body, and what S3 says when one does not hold. Pure; knows no operation.

Names are AWS's, in upper case; values are base64 of the big-endian digest.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from awscrt import checksums as crt

from outcrop.errors import ServiceError

PREFIX: Final = "x-amz-checksum-"

NOT_VALUES: Final = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})
"""Headers with the prefix that carry no checksum."""


class Running(Protocol):
    """A digest that grows with the body."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, step: Callable[[bytes, int], int], width: int) -> None:
        self._step, self._width, self._value = step, width, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


ALGORITHMS: Final[Mapping[str, Callable[[], Running]]] = {
    "CRC32": lambda: _Crc(crt.crc32, 4),
    "CRC32C": lambda: _Crc(crt.crc32c, 4),
    "CRC64NVME": lambda: _Crc(crt.crc64nvme, 8),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
"""The algorithms computed here. S3's newest (XXHASH64, XXHASH3, XXHASH128) are refused by name."""

DEFAULT: Final = "CRC64NVME"
"""What S3 computes when the client names none."""


def declared(headers: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the checksums given in headers (algorithm -> value), and the algorithms promised for the trailer.

    Raises S3's InvalidRequest for more than one, an unknown algorithm, a malformed value, or an algorithm named alone.
    """
    given = {
        name.removeprefix(PREFIX).upper(): value
        for name, value in headers.items()
        if name.startswith(PREFIX) and name not in NOT_VALUES
    }
    trailing = [name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip()]
    if any(not name.startswith(PREFIX) for name in trailing):
        raise _invalid("The value specified in the x-amz-trailer header is not supported")
    promised = tuple(name.removeprefix(PREFIX).upper() for name in trailing)
    for algorithm in (*given, *promised):
        if algorithm not in ALGORITHMS:
            raise _invalid(f"Checksum algorithm provided is unsupported: {algorithm}.")
    if len(given) + len(promised) > 1:
        raise _invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    for algorithm, value in given.items():
        check_form(algorithm, value)
    if not given and not promised and "x-amz-sdk-checksum-algorithm" in headers:
        raise _invalid(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding "
            "x-amz-checksum-* or x-amz-trailer headers were found."
        )
    return given, promised


def check_form(algorithm: str, value: str) -> None:
    """Return if the value is base64 of the right length for the algorithm; else raise InvalidRequest."""
    if decoded(value) is None or len(decoded(value) or b"") != len(ALGORITHMS[algorithm]().digest()):
        raise _invalid(f"Value for {PREFIX}{algorithm.lower()} header is invalid.")


def decoded(value: str) -> bytes | None:
    """Return the bytes behind a base64 value, or None."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def compare(algorithm: str, claimed: str, computed: str) -> None:
    """Return if the two base64 values are equal; else raise BadDigest in S3's words."""
    if claimed != computed:
        raise ServiceError(f"The {algorithm} you specified did not match the calculated checksum.", code="BadDigest")


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """Return the 16 bytes of Content-MD5, or None where there is no such header; raises InvalidDigest."""
    value = headers.get("content-md5")
    if value is None:
        return None
    digest = decoded(value)
    if digest is None or len(digest) != 16:
        members: dict[str, Any] = {"Content-MD5": value}
        raise ServiceError("The Content-MD5 you specified was invalid.", code="InvalidDigest", **members)
    return digest


def _invalid(message: str) -> ServiceError:
    return ServiceError(message, code="InvalidRequest")
