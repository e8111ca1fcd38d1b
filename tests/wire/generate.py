"""Values made from a service model's shapes, the same for the same seed, within every constraint the model states.

Strings with a pattern are drawn from the pattern itself, by walking its parse tree.
"""

import random
import re
import re._constants as sre
import re._parser as sre_parser
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from outcrop.wire.spec import Service, Shape
from outcrop.wire.validate import compiled, matches

ALPHABET = "abzAZ09-_.~ +/%&=?#'\"<>é日本𝄞"
HEADER_ALPHABET = "abzAZ09-_.~+/%&=?#'\"<>"
MAX_DEPTH = 7


class Generator:
    """Makes values for one service's shapes. `full`: every member, else the required ones and some of the rest."""

    def __init__(self, service: Service, seed: int, *, full: bool, milliseconds: bool) -> None:
        self._service, self._random, self._full, self._milliseconds = service, random.Random(seed), full, milliseconds

    def structure(self, shape: Shape, depth: int = 0) -> dict[str, Any]:
        """A structure's members; event streams are left to their own tests."""
        if shape.is_tagged_union:
            name = self._shallowest(shape, depth)
            return {name: self.value(shape.members[name], depth + 1)}
        made = {}
        for name, member in shape.members.items():
            if member.serialization.get("eventstream"):
                continue
            # An absent body and an empty one are the same on the wire.
            is_body = name == shape.serialization.get("payload") and member.type_name in ("blob", "string")
            wanted = self._full or is_body or self._random.random() < 0.5
            if name in shape.required_members or (
                wanted and depth < MAX_DEPTH and self._ends(member, MAX_DEPTH - depth)
            ):
                made[name] = self.value(member, depth + 1)
        if not made and depth:
            # XML lists and forms cannot tell an empty structure from none.
            fitting = [name for name, member in shape.members.items() if self._ends(member, MAX_DEPTH + 2 - depth)]
            made = {name: self.value(shape.members[name], depth + 1) for name in fitting[:1]}
        return made

    def _shallowest(self, shape: Shape, depth: int) -> str:
        fitting = [name for name, member in shape.members.items() if self._ends(member, MAX_DEPTH - depth)]
        return self._random.choice(fitting or list(shape.members)[:1])

    def _ends(self, shape: Shape, depth: int) -> bool:
        """Whether a value can be made within so many levels."""
        if depth <= 0:
            return shape.type_name not in ("structure", "list", "map")
        if shape.type_name == "structure" and not shape.is_document_type:
            inner = [self._ends(shape.members[name], depth - 1) for name in shape.members]
            needed = [self._ends(shape.members[name], depth - 1) for name in shape.required_members]
            return any(inner) if shape.is_tagged_union else all(needed)
        if shape.type_name == "list":
            return self._ends(shape.member, depth - 1)
        if shape.type_name == "map":
            return self._ends(shape.value, depth - 1)
        return True

    def value(self, shape: Shape, depth: int = 0) -> Any:
        """A value of any shape."""
        kind = shape.type_name
        if kind == "structure":
            if shape.is_document_type:
                return {"a": [1, 2.5, None, "x", {"b": True}]}
            return self.structure(shape, depth)
        if kind == "list":
            count = max(shape.metadata.get("min", 1), min(2, shape.metadata.get("max", 2)))
            return [self.value(shape.member, depth + 1) for _ in range(count)]
        if kind == "map":
            count = max(shape.metadata.get("min", 1), min(2, shape.metadata.get("max", 2)))
            in_header = shape.serialization.get("location") == "headers"
            keys = [f"key-{index}" if in_header else self.string(shape.key) for index in range(count)]
            return {key: "value one" if in_header else self.value(shape.value, depth + 1) for key in keys}
        if kind == "timestamp":
            in_header = shape.serialization.get("location") == "header"
            whole = in_header or not self._milliseconds
            extra = timedelta(milliseconds=0 if whole else self._random.randrange(1000))
            return datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=self._random.randrange(10**7)) + extra
        if kind in ("integer", "long"):
            low = shape.metadata.get("min", 0)
            return self._random.randint(low, min(shape.metadata.get("max", low + 1000), low + 1000))
        if kind in ("float", "double"):
            low = shape.metadata.get("min", 0)
            return float(low) + (float(shape.metadata.get("max", low + 1)) - float(low)) * self._random.choice(
                [0, 0.5, 1]
            )
        if kind == "boolean":
            return self._random.random() < 0.5
        if kind == "blob":
            return self._random.randbytes(max(shape.metadata.get("min", 0), 20))
        return self.string(shape)

    def string(self, shape: Shape) -> str:
        """A string within its length, of its pattern, or of its enum."""
        told = shape.metadata
        if shape.serialization.get("hostLabel"):
            return "route-1"
        if told.get("enum"):
            return str(self._random.choice(told["enum"]))
        low, high = told.get("min", 0), told.get("max", 10**6)
        location = shape.serialization.get("location")
        if "pattern" not in told:
            low = max(low, 1)
            # Header values lose outer spaces on the way, and commas part a list.
            alphabet = HEADER_ALPHABET if location == "header" else ALPHABET
            inner = "".join(self._random.choice(alphabet) for _ in range(min(max(low, 12), high)))
            return inner.strip().ljust(low, "x") or "x"
        for attempt in range(400):
            made = Sampler(self._random, reach=1 + low + attempt // 8).sample(
                self._service.matchers.get(told["pattern"], told["pattern"])
            )
            # An empty header or path label is not sent at all.
            sendable = made or (low == 0 and location is None)
            fits = low <= len(made) <= high and made == made.strip()
            if sendable and fits and matches(self._service, told["pattern"], made):
                return made
        raise AssertionError(f"no sample for {shape.name}: {told['pattern']} in {low}..{high}")


class Sampler:
    """Draws strings from a regular expression. `reach` bounds how far beyond its minimum a repetition goes."""

    def __init__(self, source: random.Random, *, reach: int) -> None:
        self._random, self._reach = source, reach

    def sample(self, pattern: str) -> str:
        """One string that the pattern is likely to match (anchors in mid-pattern may refuse it)."""
        return self._walk(sre_parser.parse(compiled(pattern).pattern, re.ASCII if "\\p{" not in pattern else 0))

    def _walk(self, nodes: Any) -> str:
        return "".join(self._node(op, argument) for op, argument in nodes)

    def _node(self, op: Any, argument: Any) -> str:
        if op is sre.LITERAL:
            return chr(argument)
        if op is sre.NOT_LITERAL:
            return "a" if argument != ord("a") else "b"
        if op is sre.ANY:
            return self._random.choice("abcXYZ019")
        if op is sre.IN:
            return self._random.choice(self._class(argument))
        if op is sre.BRANCH:
            return self._walk(self._random.choice(argument[1]))
        if op is sre.SUBPATTERN:
            return self._walk(argument[3])
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, inner = argument
            count = self._random.randint(low, min(int(high), low + self._reach))
            return "".join(self._walk(inner) for _ in range(count))
        if op in (sre.AT, sre.ASSERT_NOT, sre.ASSERT):
            return ""
        raise NotImplementedError(op)

    def _class(self, items: Any) -> str:
        negated = bool(items) and items[0][0] is sre.NEGATE
        chosen = ""
        for op, argument in items:
            if op is sre.LITERAL:
                chosen += chr(argument)
            elif op is sre.RANGE:
                chosen += "".join(chr(each) for each in range(argument[0], min(argument[1], 126) + 1) if each > 32)
            elif op is sre.CATEGORY:
                chosen += {"CATEGORY_DIGIT": "0123456789", "CATEGORY_SPACE": " "}.get(str(argument), "abcXYZ_019")
        if negated:
            return "".join(each for each in "abcXYZ019" if each not in chosen)
        return chosen


def members_of(value: Mapping[str, Any], without: str = "ResponseMetadata") -> dict[str, Any]:
    """A parsed answer without the metadata that botocore adds."""
    return {name: each for name, each in value.items() if name != without}
