"""Hyperparameters as callers type them: strings, checked against a row's rules, kept as typed, defaults filled in.

Knows the rules of one table and nothing of jobs. AWS's own texts for these refusals are unknown; ours have the form of
its other constraint violations and name value, member and range.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from outcrop.catalog.rows import Parameter
from outcrop.errors import ValidationException

INT: Final = re.compile(r"[+-]?[0-9]{1,18}")
FLOAT: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
LONGEST: Final = 64
"""Characters of one value; AWS names no bound, and no number needs more."""

OURS: Final[dict[str, Parameter]] = {
    "method": Parameter(type="word", words=("lora", "full")),
    "loraRank": Parameter(type="int", min=1, max=256),
    "loraAlpha": Parameter(type="float", min=0.001, max=1024),
    "seed": Parameter(type="int", min=0, max=2**31 - 1),
    "maxSequenceLength": Parameter(type="int", min=8, max=1_048_576),
    "learningRateSchedule": Parameter(type="word", words=("linear", "cosine", "constant")),
    "export": Parameter(type="word", words=("true", "false")),
}
"""Names of ours beside AWS's: taken, checked, and echoed only when they were given."""

MEANT: Final = (
    "epochCount",
    "batchSize",
    "learningRate",
    "learningRateMultiplier",
    "learningRateWarmupSteps",
    "earlyStoppingThreshold",
    "earlyStoppingPatience",
    "evalPercentage",
)
"""AWS's names that training acts on: a row with another one would take a value and ignore it."""


def own() -> frozenset[str]:
    """The names of our own hyperparameters."""
    return frozenset(OURS)


def echo(model_id: str, rules: Mapping[str, Parameter], given: Mapping[str, str]) -> dict[str, str]:
    """The given values as typed, with defaults filled in; raises ValidationException that names every fault at once."""
    faults = list(_faults(model_id, rules, given))
    if faults:
        plural = "s" if len(faults) > 1 else ""
        raise ValidationException(f"{len(faults)} validation error{plural} detected: {'; '.join(faults)}")
    filled = {name: given.get(name, rule.default) for name, rule in rules.items()}
    values = {name: value for name, value in filled.items() if value is not None}
    return values | {name: value for name, value in given.items() if name not in rules}


def plain_numbers(rules: Mapping[str, Parameter], echoed: Mapping[str, str]) -> dict[str, str]:
    """Echoed values with each word in a number's place (auto, Auto) as the number that it stands for."""
    return {name: _plain(rules.get(name), value) for name, value in echoed.items()}


def _plain(rule: Parameter | None, value: str) -> str:
    if rule is None or not _is_word(rule, value):
        return value
    number = rule.auto or rule.default
    assert number is not None  # refuse_default saw to it
    return number


def _is_word(rule: Parameter, value: str) -> bool:
    """Whether a value is a word that stands for a number."""
    return rule.type != "word" and value.lower() in (word.lower() for word in rule.words)


def is_number(rule: Parameter, value: str | None) -> bool:
    """Whether a value that the rule takes is a number."""
    return value is not None and rule.type != "word" and not _is_word(rule, value)


def refuse_default(name: str, rule: Parameter) -> str | None:
    """Why a rule contradicts itself, or None."""
    if rule.default is not None and rule.required:
        return "required, yet there is a default"
    if rule.type == "word" and not rule.words:
        return "of type word, yet there are no words"
    if rule.type != "word" and (rule.min is None or rule.max is None or rule.min > rule.max):
        return "a number needs a min and a max that is not below it"
    if rule.type != "word" and rule.words and not is_number(rule, rule.auto or rule.default):
        return f"takes {', '.join(rule.words)}, yet neither auto nor default says which number that is"
    for value in (rule.default, rule.auto):
        if value is not None and (reason := _refuse(name, value, rule)):
            return reason
    return None


def _faults(model_id: str, rules: Mapping[str, Parameter], given: Mapping[str, str]) -> Iterator[str]:
    known = {**rules, **OURS}
    for name, value in given.items():
        if name not in known:
            yield (
                f"Value '{value[:LONGEST]}' at 'hyperParameters.{name[:LONGEST]}' failed to satisfy constraint: "
                f"{model_id} has no such hyperparameter. Member must satisfy enum value set: [{', '.join(known)}]"
            )
        elif reason := _refuse(name, value, known[name]):
            yield reason
    for name, rule in rules.items():
        if rule.required and name not in given:
            yield f"Value at 'hyperParameters.{name}' failed to satisfy constraint: Member must not be null"


def _refuse(name: str, value: str, rule: Parameter) -> str | None:
    """The refusal of one value, or None when it keeps the rule."""
    if value in rule.words or _is_word(rule, value):
        return None
    start = f"Value '{value[:LONGEST]}' at 'hyperParameters.{name}' failed to satisfy constraint: Member must "
    if rule.type == "word":
        return f"{start}satisfy enum value set: [{', '.join(rule.words)}]"
    wanted = f"be {'an integer' if rule.type == 'int' else 'a number'} between {rule.min:.12g} and {rule.max:.12g}"
    if rule.words:
        wanted += f", or one of [{', '.join(rule.words)}]"
    shape = INT if rule.type == "int" else FLOAT
    if len(value) > LONGEST or not shape.fullmatch(value):
        return start + wanted
    assert rule.min is not None
    assert rule.max is not None
    return None if rule.min <= float(value) <= rule.max else start + wanted
