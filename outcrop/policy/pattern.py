"""One value of a policy with its wildcards and ${variables}, matched in time linear in the stars.

Knows the context of a request as a mapping of lower-case keys; nothing of documents or callers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

Context = Mapping[str, Sequence[str]]
"""What is known of a request: condition key in lower case -> its values."""

VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
ARN_COLONS: Final = 5
"""Colons that split an ARN into its segments; those after them belong to the resource."""


class Wild(Enum):
    """A wildcard: any run of characters, or any one."""

    RUN = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    """${key} or ${key, 'default'}."""

    key: str
    default: str | None = None


Token = str | Wild | Variable


class BadVariable(ValueError):
    """A ${…} that is no policy variable."""


def _literal(text: str, wild: bool) -> list[Token]:
    """Text outside variables: characters, and wildcards where they count."""
    if not wild:
        return [text] if text else []
    parts = re.split(r"([*?])", text)
    return [Wild(part) if part in ("*", "?") else part for part in parts if part]


def _variable(body: str) -> Token:
    """The inside of ${…}; ${*}, ${?} and ${$} stand for the characters themselves."""
    if body in ("*", "?", "$"):
        return body
    key, comma, rest = body.partition(",")
    default = rest.strip()
    quoted = len(default) >= 2 and default[0] == default[-1] == "'"
    if not key.strip() or (comma and not quoted):
        raise BadVariable(f"${{{body}}}")
    return Variable(key.strip().lower(), default[1:-1] if comma else None)


def tokens(text: str, *, wild: bool, variables: bool) -> tuple[Token, ...]:
    """Split a pattern; raises BadVariable for a malformed ${…}."""
    if not variables or "${" not in text:
        return tuple(_literal(text, wild))
    found: list[Token] = []
    for place, piece in enumerate(VARIABLE.split(text)):
        if place % 2:
            found.append(_variable(piece))
        elif "${" in piece:
            raise BadVariable(piece[piece.index("${") :])
        else:
            found += _literal(piece, wild)
    return tuple(found)


def _regex(parts: Sequence[str | Wild], *, arn: bool, fold: bool) -> re.Pattern[str]:
    """A regular expression that never goes back over a star it has passed.

    Each run is followed by a fixed piece, found at its first place and kept (an atomic group): for patterns of stars
    that is as good as trying all places, and a hostile policy cannot make it exponential. In an ARN a wildcard stays
    within its segment; as the segments' colons are fixed text, the first place is again the only one worth a try.
    """
    total = sum(part.count(":") for part in parts if isinstance(part, str))
    # Of a shortened ARN (arn:aws:s3:*) the last segment stands for all that follow.
    last, colons = min(total, ARN_COLONS) if arn else 0, 0
    pieces: list[list[str]] = [[""]]
    for part in parts:
        any_one = "[^:]" if colons < last else "."
        if part is Wild.RUN:
            pieces.append([any_one])
        elif part is Wild.ONE:
            pieces[-1].append(any_one)
        else:
            colons += part.count(":")
            pieces[-1].append(re.escape(part))
    first, *runs = pieces
    text = "".join(first)
    for run in runs[:-1]:
        text += f"(?>{run[0]}*?{''.join(run[1:])})"
    if runs:
        text += f"{runs[-1][0]}*{''.join(runs[-1][1:])}"
    return re.compile(text, re.DOTALL | (re.IGNORECASE if fold else 0))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A policy's value ready to be matched."""

    text: str
    parts: tuple[Token, ...]
    arn: bool
    fold: bool
    """Letters match in either case."""
    regex: re.Pattern[str] | None
    """None: the pattern has variables and is made for each request."""

    @classmethod
    def parse(
        cls, text: str, *, wild: bool = True, variables: bool = False, arn: bool = False, fold: bool = False
    ) -> "Pattern":
        """Read a pattern; raises BadVariable."""
        parts = tokens(text, wild=wild, variables=variables)
        fixed = [part for part in parts if not isinstance(part, Variable)]
        regex = _regex(fixed, arn=arn, fold=fold) if len(fixed) == len(parts) else None
        return cls(text=text, parts=parts, arn=arn, fold=fold, regex=regex)

    def matches(self, value: str, context: Context) -> bool:
        """Whether the whole value fits; a variable without a value fits nothing."""
        regex = self.regex
        if regex is None:
            filled: list[str | Wild] = []
            for part in self.parts:
                if not isinstance(part, Variable):
                    filled.append(part)
                    continue
                values = context.get(part.key, ())
                # A variable that stands for several values has no one text (AWS: single-valued keys only).
                known = values[0] if len(values) == 1 else part.default
                if known is None:
                    return False
                filled.append(known)
            regex = _regex(filled, arn=self.arn, fold=self.fold)
        return regex.fullmatch(value) is not None
