"""The aws-chunked encoding of S3 bodies: chunks, their signatures, the trailer and its signature. Bytes in, bytes out.

    size-in-hex[;chunk-signature=64 hex]\\r\\n data \\r\\n  …  0[;chunk-signature=…]\\r\\n  name:value\\r\\n …  \\r\\n

Each signature covers the one before it, so a chunk moved, dropped or changed breaks the chain. No data is held back: a
chunk may be gigabytes, so its bytes pass on while its hash grows, and the caller keeps them unseen until `finish()`.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection
from typing import Final

from outcrop.errors import ServiceError
from outcrop.wire.refusals import refuse
from outcrop.wire.sigv4 import EMPTY_SHA256, Proof

MAX_LINE: Final = 1024
"""A chunk's head has at most a hex size and a signature, some 100 bytes."""

MAX_TRAILER: Final = 8 * 1024
"""All trailer lines together; a checksum and a signature take some 200 bytes."""

_HEAD: Final = re.compile(rb"(?P<size>[0-9a-fA-F]{1,16})(?:;chunk-signature=(?P<signature>[0-9a-f]{64}))?")

_SIGNATURE: Final = "x-amz-trailer-signature"


class ChunkDecoder:
    """Undoes aws-chunked. `proof` is None for unsigned chunks; `trailing` names the trailer headers promised."""

    def __init__(self, proof: Proof | None, trailing: Collection[str], *, has_trailer: bool) -> None:
        self.trailers: dict[str, str] = {}
        self._proof = proof
        self._previous = proof.signature if proof else ""
        self._trailing = frozenset(trailing)
        self._has_trailer = has_trailer
        self._held = bytearray()
        self._step: Callable[[], bytes | None] = self._read_head
        self._left = 0
        self._claimed = ""
        self._hash = hashlib.sha256()
        self._lines: list[tuple[str, str]] = []
        self._trailer_size = 0
        self._done = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the decoded pieces that these bytes complete; raises ServiceError as soon as one cannot be right."""
        self._held += data
        pieces: list[bytes] = []
        while not self._done:
            piece = self._step()
            if piece is None:
                break
            if piece:
                pieces.append(piece)
        if self._done and self._held:
            raise _malformed()
        return pieces

    def finish(self) -> None:
        """Return if the encoding came to its proper end; else raise IncompleteBody."""
        if not self._done:
            raise ServiceError("The request body terminated unexpectedly", code="IncompleteBody")

    def _line(self) -> bytes | None:
        end = self._held.find(b"\r\n")
        if end < 0:
            if len(self._held) > MAX_LINE:
                raise _malformed()
            return None
        line = bytes(self._held[:end])
        del self._held[: end + 2]
        return line

    def _read_head(self) -> bytes | None:
        line = self._line()
        if line is None:
            return None
        found = _HEAD.fullmatch(line)
        if found is None or (self._proof is not None) != (found["signature"] is not None):
            raise _malformed()
        self._left = int(found["size"], 16)
        self._claimed = (found["signature"] or b"").decode()
        self._hash = hashlib.sha256()
        if self._left:
            self._step = self._read_data
        else:
            self._check_chunk()
            self._step = self._read_trailer
        return b""

    def _read_data(self) -> bytes | None:
        if not self._held:
            return None
        piece = bytes(self._held[: self._left])
        del self._held[: self._left]
        self._left -= len(piece)
        if self._proof is not None:
            self._hash.update(piece)
        if not self._left:
            self._check_chunk()
            self._step = self._read_end
        return piece

    def _read_end(self) -> bytes | None:
        if len(self._held) < 2:
            return None
        if self._held[:2] != b"\r\n":
            raise _malformed()
        del self._held[:2]
        self._step = self._read_head
        return b""

    def _read_trailer(self) -> bytes | None:
        line = self._line()
        if line is None:
            return None
        self._trailer_size += len(line) + 2
        if self._trailer_size > MAX_TRAILER:
            raise _bad_trailer()
        if line:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise _bad_trailer()
            self._lines.append((name.strip().lower(), value.strip()))
        else:
            self._close()
        return b""

    def _close(self) -> None:
        names = [name for name, _ in self._lines]
        signature = dict(self._lines).get(_SIGNATURE)
        fields = [(name, value) for name, value in self._lines if name != _SIGNATURE]
        if len(set(names)) != len(names) or {name for name, _ in fields} != self._trailing:
            raise _bad_trailer()
        if self._proof is not None and self._has_trailer:
            if signature is None:
                raise _bad_trailer()
            block = "".join(f"{name}:{value}\n" for name, value in fields)
            self._check("AWS4-HMAC-SHA256-TRAILER", signature, hashlib.sha256(block.encode("latin-1")).hexdigest())
        elif signature is not None:
            raise _bad_trailer()
        self.trailers = dict(fields)
        self._done = True

    def _check_chunk(self) -> None:
        if self._proof is not None:
            self._check("AWS4-HMAC-SHA256-PAYLOAD", self._claimed, f"{EMPTY_SHA256}\n{self._hash.hexdigest()}")

    def _check(self, algorithm: str, claimed: str, digest: str) -> None:
        assert self._proof is not None
        text = f"{algorithm}\n{self._proof.timestamp}\n{self._proof.scope}\n{self._previous}\n{digest}"
        true = hmac.new(self._proof.key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(true.encode(), claimed.encode()):
            raise refuse("rest-xml", "mismatch", StringToSign=text, SignatureProvided=claimed)
        self._previous = claimed


def _malformed() -> ServiceError:
    return ServiceError("The chunked encoding of the request body is not well-formed.", code="InvalidChunkSizeError")


def _bad_trailer() -> ServiceError:
    return ServiceError(
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
        code="MalformedTrailerError",
    )
