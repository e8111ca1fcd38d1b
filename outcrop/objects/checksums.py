"""The checksums that S3 keeps of objects: computing them, and joining those of parts to that of the whole.

Knows bytes and base64. Values are base64 of the big-endian checksum, as in the x-amz-checksum-* headers. The CRCs come
from awscrt (AWS's own C library, as boto3 uses it), hashes from the standard library.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from awscrt import checksums as crt

DEFAULT: Final = "CRC64NVME"
"""What S3 computes of an object whose sender named none."""

CRCS: Final[dict[str, tuple[int, Callable[[bytes, int], int], Callable[[int, int, int], int]]]] = {
    "CRC32": (4, crt.crc32, crt.combine_crc32),
    "CRC32C": (4, crt.crc32c, crt.combine_crc32c),
    "CRC64NVME": (8, crt.crc64nvme, crt.combine_crc64nvme),
}
"""Width in bytes, update(data, previous), combine(first, second, size of second)."""

HASHES: Final[dict[str, Callable[[], "hashlib._Hash"]]] = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256}

ALGORITHMS: Final = (*CRCS, *HASHES)


class Digest:
    """A checksum that is fed bytes."""

    def __init__(self, algorithm: str) -> None:
        self._hash = HASHES[algorithm]() if algorithm in HASHES else None
        self._width, self._update, _ = CRCS.get(algorithm, (0, crt.crc32, crt.combine_crc32))
        self._crc = 0

    def update(self, data: bytes) -> None:
        """Go on with these bytes."""
        if self._hash is not None:
            self._hash.update(data)
        else:
            self._crc = self._update(data, self._crc)

    def value(self) -> str:
        """Base64 of the checksum of all bytes so far."""
        raw = self._hash.digest() if self._hash is not None else self._crc.to_bytes(self._width, "big")
        return base64.b64encode(raw).decode()


def whole(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """The checksum of the concatenation of parts, each given as (checksum, size); CRCs only."""
    width, _, combine = CRCS[algorithm]
    crc = 0
    for value, size in parts:
        crc = combine(crc, int.from_bytes(base64.b64decode(value), "big"), size)
    return base64.b64encode(crc.to_bytes(width, "big")).decode()


def composite(algorithm: str, parts: Sequence[str]) -> str:
    """The checksum of the parts' checksums, with -N behind it: S3's COMPOSITE type."""
    digest = Digest(algorithm)
    digest.update(b"".join(base64.b64decode(value) for value in parts))
    return f"{digest.value()}-{len(parts)}"
