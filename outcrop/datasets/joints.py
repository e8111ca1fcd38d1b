"""What stands between the texts of a good line, format by format, as tables that whole blocks can be compared with.

A line is a head, texts, joints between them, and a tail: {"prompt": " … ", "completion": " … "}. Where every byte that
is not a text's is one of these literal joints, in an order that the format allows, the line is good JSON of the format
and no member can stand twice. Only the usual orders of members are here; other ones are read line by line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

START: Final = 0
"""What comes before a line's first text."""

ROLE: Final = 1
"""The name of a speaker."""

VERSION: Final = 2
"""The name of the format itself."""

SYSTEM: Final = 3
GIVEN: Final = 4
ANSWER: Final = 5
"""Of the flat formats: the prompt and the completion (or the text) when they come first; LATE and they are second."""
GIVEN_LATE: Final = 6
ANSWER_LATE: Final = 7
CONTENT: Final = 8
"""The text of a message."""

KINDS: Final = 9


@dataclass(frozen=True, slots=True)
class Joint:
    """Some literal bytes between two texts, both quotation marks included."""

    spelled: str
    """With a ~ where a space may stand."""
    before: int
    """The kind of text that it follows."""
    after: int
    """The kind of text that it leads to; of a tail: none."""

    def spellings(self) -> list[bytes]:
        """With and without each of the spaces: all with them first, as most writers do."""
        parts = self.spelled.split("~")
        if len(parts) == 1:
            return [self.spelled.encode()]
        spaces = product((" ", ""), repeat=len(parts) - 1)
        return ["".join(map("".join, zip(parts, (*gaps, ""), strict=True))).encode() for gaps in spaces]


@dataclass(frozen=True, slots=True)
class Grammar:
    """The joints of one format: heads follow START."""

    joints: tuple[Joint, ...]
    tails: tuple[Joint, ...]


GRAMMARS: Final[Mapping[str, Grammar]] = {
    "prompt-completion": Grammar(
        (
            Joint('{"prompt":~"', START, GIVEN),
            Joint('",~"completion":~"', GIVEN, ANSWER_LATE),
            Joint('{"completion":~"', START, ANSWER),
            Joint('",~"prompt":~"', ANSWER, GIVEN_LATE),
        ),
        (Joint('"}', ANSWER_LATE, START), Joint('"}', GIVEN_LATE, START)),
    ),
    "text": Grammar((Joint('{"input":~"', START, ANSWER),), (Joint('"}', ANSWER, START),)),
    "messages": Grammar(
        (
            Joint('{"messages":~[{"role":~"', START, ROLE),
            Joint('{"system":~"', START, SYSTEM),
            Joint('",~"messages":~[{"role":~"', SYSTEM, ROLE),
            Joint('",~"content":~"', ROLE, CONTENT),
            Joint('"},~{"role":~"', CONTENT, ROLE),
        ),
        (Joint('"}]}', CONTENT, START),),
    ),
    "conversation": Grammar(
        (
            Joint('{"schemaVersion":~"', START, VERSION),
            Joint('",~"system":~[{"text":~"', VERSION, SYSTEM),
            Joint('",~"messages":~[{"role":~"', VERSION, ROLE),
            Joint('"}],~"messages":~[{"role":~"', SYSTEM, ROLE),
            Joint('",~"content":~[{"text":~"', ROLE, CONTENT),
            Joint('"}]},~{"role":~"', CONTENT, ROLE),
        ),
        (Joint('"}]}]}', CONTENT, START),),
    ),
}
