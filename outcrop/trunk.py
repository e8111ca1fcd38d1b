"""What the server and our own engine say to each other over one connection: all streams of an engine, side by side.

JSON, a line a message; what a step gives to all requests is one line. Spelled once, as the two ends never import each
other. Knows bytes and shapes; nothing of sockets, requests or who answers.
"""

from typing import Final

from msgspec import Raw, Struct
from msgspec.json import Decoder, Encoder

END: Final = b"\n"


class Hello(Struct, frozen=True):
    """The first line of a connection. key: the engine's bearer key; another one, and the engine hangs up."""

    key: str


class Ask(Struct, frozen=True, tag="ask"):
    """A request."""

    id: int
    """Of the server's choice, once a connection."""
    verb: str
    """The HTTP verb's path whose request `body` is; it is answered as a stream whatever it says."""
    body: Raw


class Hold(Struct, frozen=True, tag="hold"):
    """Whether nothing more of an answer is told, because its reader is behind, or all of it again."""

    id: int
    held: bool


class Drop(Struct, frozen=True, tag="drop"):
    """Nobody wants the rest of an answer."""

    id: int


Asked = Ask | Hold | Drop


class Told(Struct, frozen=True, array_like=True, gc=False):
    """What an engine says of one request. Members that follow are left out where they say nothing."""

    id: int
    status: int
    """As HTTP's: 202 once it is queued, 200 for a piece, 400 and more with `text`, the error's document."""
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: str | None = None
    """As in `Output`: stop, length or error, of which `text` says what a person should know."""
    stop_reason: str | None = None


TAKEN: Final = 202
PIECE: Final = 200

ENCODER: Final = Encoder()
HELLO: Final = Decoder(Hello)
ASKED: Final[Decoder[Asked]] = Decoder(Asked)
TOLD: Final = Decoder(list[Told])


class Lines:
    """Whole lines out of bytes that come in any cuts."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self.held = 0
        """Bytes of the line that is not whole yet."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now."""
        first, *rest = data.split(END)
        self._begun.append(first)
        if not rest:
            self.held += len(first)
            return []
        lines = [b"".join(self._begun), *rest[:-1]]
        self._begun, self.held = [rest[-1]], len(rest[-1])
        return lines
