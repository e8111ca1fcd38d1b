"""The condition operators of policies, as one literal table, and a condition that can be asked.

An operator that is not in the table is refused when the document is read: a condition that nobody evaluates would
silently widen an Allow. Source: IAM User Guide, "IAM JSON policy elements: Condition operators".
"""

import base64
import binascii
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address, ip_network
from typing import Final, TypeVar

from outcrop.policy.pattern import Context, Pattern

Value = TypeVar("Value")
Test = Callable[[str, Context], bool]
"""Does this value of the request fit one value of the policy?"""
Maker = Callable[[str, bool], Test]
"""A policy's value, and whether variables count in it -> its test; raises ValueError for a value that cannot be."""


def number(text: str) -> Decimal:
    """A decimal number; raises ValueError."""
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a number") from error
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a number")
    return value


def instant(text: str) -> datetime:
    """An ISO 8601 instant or seconds since 1970; raises ValueError."""
    if text.replace(".", "", 1).removeprefix("-").isdigit():
        try:
            return datetime.fromtimestamp(float(text), UTC)
        except (OverflowError, OSError) as error:
            raise ValueError(f"{text!r} is not a date") from error
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def truth(text: str) -> bool:
    """true or false in any case; raises ValueError."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def octets(text: str) -> bytes:
    """Base64; raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r} is not base64") from error


def _string(*, wild: bool = False, fold: bool = False) -> Maker:
    def make(text: str, variables: bool) -> Test:
        return Pattern.parse(text, wild=wild, variables=variables, fold=fold).matches

    return make


def _arn(text: str, variables: bool) -> Test:
    if not text.startswith(("arn:", "*", "${")):
        raise ValueError(f"{text!r} is not an ARN")
    return Pattern.parse(text, variables=variables, arn=True).matches


def _read(read: Callable[[str], Value], compare: Callable[[Value, Value], bool]) -> Maker:
    def make(text: str, _variables: bool) -> Test:
        bound = read(text)

        def test(value: str, _context: Context) -> bool:
            try:
                return compare(read(value), bound)
            except ValueError:
                return False  # A value of another kind equals nothing and is neither more nor less.

        return test

    return make


def _address(text: str, _variables: bool) -> Test:
    network = ip_network(text, strict=False)

    def test(value: str, _context: Context) -> bool:
        try:
            return ip_address(value) in network
        except ValueError:
            return False

    return test


OPERATORS: Final[Mapping[str, tuple[Maker, bool]]] = {
    # name: (how a value is tested, whether the answer is turned round)
    "StringEquals": (_string(), False),
    "StringNotEquals": (_string(), True),
    "StringEqualsIgnoreCase": (_string(fold=True), False),
    "StringNotEqualsIgnoreCase": (_string(fold=True), True),
    "StringLike": (_string(wild=True), False),
    "StringNotLike": (_string(wild=True), True),
    "ArnEquals": (_arn, False),
    "ArnLike": (_arn, False),
    "ArnNotEquals": (_arn, True),
    "ArnNotLike": (_arn, True),
    "NumericEquals": (_read(number, operator.eq), False),
    "NumericNotEquals": (_read(number, operator.eq), True),
    "NumericLessThan": (_read(number, operator.lt), False),
    "NumericLessThanEquals": (_read(number, operator.le), False),
    "NumericGreaterThan": (_read(number, operator.gt), False),
    "NumericGreaterThanEquals": (_read(number, operator.ge), False),
    "DateEquals": (_read(instant, operator.eq), False),
    "DateNotEquals": (_read(instant, operator.eq), True),
    "DateLessThan": (_read(instant, operator.lt), False),
    "DateLessThanEquals": (_read(instant, operator.le), False),
    "DateGreaterThan": (_read(instant, operator.gt), False),
    "DateGreaterThanEquals": (_read(instant, operator.ge), False),
    "Bool": (_read(truth, operator.eq), False),
    "BinaryEquals": (_read(octets, operator.eq), False),
    "IpAddress": (_address, False),
    "NotIpAddress": (_address, True),
}
BY_LOWER_NAME: Final = {name.lower(): made for name, made in OPERATORS.items()}
QUANTIFIERS: Final[Mapping[str, Callable[[Sequence[bool]], bool]]] = {"forallvalues": all, "foranyvalue": any}


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key: {"StringLike": {"s3:prefix": ["a/*", "b/*"]}}."""

    key: str
    """In lower case."""
    tests: tuple[Test, ...]
    negated: bool
    quantifier: str | None
    """forallvalues, foranyvalue, or None for a key of one value."""
    if_exists: bool
    null: bool | None
    """For Null: whether the key must be missing; None for all other operators."""

    def holds(self, context: Context) -> bool:
        """Whether the request meets the condition."""
        values = context.get(self.key, ())
        if self.null is not None:
            return (not values) == self.null
        if not values:
            # A missing key satisfies what is negated, all of none, and whatever says IfExists; nothing else.
            return self.if_exists or self.quantifier == "forallvalues" or (self.negated and self.quantifier is None)
        answers = [any(test(value, context) for test in self.tests) != self.negated for value in values]
        if self.quantifier is not None:
            return QUANTIFIERS[self.quantifier](answers)
        return all(answers) if self.negated else any(answers)


def read(name: str, key: str, values: Sequence[str], *, variables: bool) -> Condition:
    """A condition from a document; raises ValueError for an operator or a value that cannot be evaluated."""
    quantifier, colon, rest = name.lower().rpartition(":")
    if colon and quantifier not in QUANTIFIERS:
        raise ValueError(f"Invalid condition operator: {name}")
    if rest == "null":
        if quantifier or len(values) != 1:
            raise ValueError(f"Null takes one value, true or false, for {key}")
        return Condition(key.lower(), (), False, None, False, truth(values[0]))
    bare = rest.removesuffix("ifexists")
    if bare not in BY_LOWER_NAME:
        raise ValueError(f"Invalid condition operator: {name}")
    make, negated = BY_LOWER_NAME[bare]
    tests = tuple(make(value, variables) for value in values)
    return Condition(key.lower(), tests, negated, quantifier or None, bare != rest, None)
