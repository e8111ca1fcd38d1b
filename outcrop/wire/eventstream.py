"""Events as frames of application/vnd.amazon.eventstream. Bytes in, bytes out; knows no shape and no service.

A frame: total length, header length, CRC32 of those eight bytes, headers, payload, CRC32 of all before it; big-endian.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Final

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

STRING_HEADER: Final = 7
"""The type byte of a string value; AWS sends no other kind for the events spoken here."""

MAX_HEADERS: Final = 128 * 1024
"""botocore's and smithy's bound on a frame's headers."""

MAX_PAYLOAD: Final = 16 * 1024 * 1024
"""AWS's bound on a frame's payload; botocore refuses more than 24 MiB."""


_LENGTHS: Final = struct.Struct(">II").pack
_SUM: Final = struct.Struct(">I").pack


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one frame. Raises ValueError when a header or the payload is longer than the format allows."""
    return frame(head(headers), payload)


def head(headers: Mapping[str, str]) -> bytes:
    """Return a frame's headers, which are the same for every event of a name. Raises ValueError as encode does."""
    found = b"".join(_header(name, value) for name, value in headers.items())
    if len(found) > MAX_HEADERS:
        raise ValueError(f"{len(found)} header bytes fit no frame")
    return found


def frame(head: bytes, payload: bytes) -> bytes:
    """Return the frame of encoded headers and a payload. Raises ValueError for too long a payload."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"an event of {len(payload)} payload bytes fits no frame")
    lengths = _LENGTHS(16 + len(head) + len(payload), len(head))
    start = b"".join((lengths, _SUM(zlib.crc32(lengths)), head, payload))
    return start + _SUM(zlib.crc32(start))


def _header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    if len(raw_name) > 255 or len(raw_value) > 32767:
        raise ValueError(f"the event header {name!r} is too long")
    return struct.pack(">B", len(raw_name)) + raw_name + struct.pack(">BH", STRING_HEADER, len(raw_value)) + raw_value
