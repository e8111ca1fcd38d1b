"""Hyperparameters: kept as typed, filled with defaults, refused with value, member and rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.hyperparameters import OURS, echo
from outcrop.catalog.rows import FoundationModel, Parameter
from outcrop.errors import ValidationException

CATALOG = Catalog.load()


def row(model_id: str) -> FoundationModel:
    found = CATALOG.find(model_id)
    assert found is not None
    return found


EXPRESS = row("amazon.titan-text-express-v1")
LITE = row("amazon.titan-text-lite-v1")
PREMIER = row("amazon.titan-text-premier-v1:0")
DEFAULTS = {"epochCount": "5", "batchSize": "1", "learningRate": "1.0E-5", "learningRateWarmupSteps": "5"}


def check(model: FoundationModel, values: dict[str, str]) -> dict[str, str]:
    return CATALOG.hyperparameters(model, "FINE_TUNING", values)


def refusal(model: FoundationModel, values: dict[str, str]) -> str:
    with pytest.raises(ValidationException) as caught:
        check(model, values)
    return caught.value.message


def test_defaults_are_filled_in_java_style() -> None:
    assert check(EXPRESS, {}) == DEFAULTS
    assert check(LITE, {}) == DEFAULTS
    assert check(PREMIER, {}) == {
        "epochCount": "2",
        "batchSize": "1",
        "learningRate": "1.0E-6",
        "learningRateWarmupSteps": "5",
    }


@pytest.mark.parametrize("typed", ["0.00001", ".0001", "1.00E-07", "1e-5", "5.", "0", "1", "+0.5", "1E-005"])
def test_numbers_are_kept_as_typed(typed: str) -> None:
    if typed == "5.":
        assert "between 0 and 1" in refusal(EXPRESS, {"learningRate": typed})
    else:
        assert check(EXPRESS, {"learningRate": typed}) == {**DEFAULTS, "learningRate": typed}


def test_the_guides_own_values() -> None:
    given_by_guide = {"epochCount": "3", "batchSize": "8", "learningRate": "0.00001"}
    assert check(EXPRESS, given_by_guide) == {**given_by_guide, "learningRateWarmupSteps": "5"}


@pytest.mark.parametrize(
    ("model", "name", "value", "wanted"),
    [
        (EXPRESS, "epochCount", "0", "an integer between 1 and 10"),
        (EXPRESS, "epochCount", "11", "an integer between 1 and 10"),
        (EXPRESS, "epochCount", "3.0", "an integer between 1 and 10"),
        (EXPRESS, "epochCount", "", "an integer between 1 and 10"),
        (EXPRESS, "epochCount", " 3", "an integer between 1 and 10"),
        (EXPRESS, "epochCount", "３", "an integer between 1 and 10"),
        (EXPRESS, "epochCount", "three", "an integer between 1 and 10"),
        (EXPRESS, "batchSize", "65", "an integer between 1 and 64"),
        (EXPRESS, "batchSize", "9" * 30, "an integer between 1 and 64"),
        (EXPRESS, "learningRate", "1.1", "a number between 0 and 1"),
        (EXPRESS, "learningRate", "-1e-5", "a number between 0 and 1"),
        (EXPRESS, "learningRate", "nan", "a number between 0 and 1"),
        (EXPRESS, "learningRate", "inf", "a number between 0 and 1"),
        (EXPRESS, "learningRate", "1_0", "a number between 0 and 1"),
        (EXPRESS, "learningRate", ".", "a number between 0 and 1"),
        (EXPRESS, "learningRate", "1e9999", "a number between 0 and 1"),
        (EXPRESS, "learningRateWarmupSteps", "251", "an integer between 0 and 250"),
        (PREMIER, "epochCount", "6", "an integer between 1 and 5"),
        (PREMIER, "batchSize", "2", "an integer between 1 and 1"),
        (PREMIER, "learningRate", "2e-5", "a number between 1e-07 and 1e-05"),
        (PREMIER, "learningRate", "1e-8", "a number between 1e-07 and 1e-05"),
        (PREMIER, "learningRateWarmupSteps", "21", "an integer between 0 and 20"),
        (EXPRESS, "loraRank", "257", "an integer between 1 and 256"),
        (EXPRESS, "loraRank", "0", "an integer between 1 and 256"),
        (EXPRESS, "maxSequenceLength", "1048577", "an integer between 8 and 1048576"),
        (EXPRESS, "seed", "-1", "an integer between 0 and 2147483647"),
        (EXPRESS, "loraAlpha", "0", "a number between 0.001 and 1024"),
        (EXPRESS, "method", "qlora", "enum value set: [lora, full]"),
        (EXPRESS, "method", "LoRA", "enum value set: [lora, full]"),
        (EXPRESS, "learningRateSchedule", "step", "enum value set: [linear, cosine, constant]"),
        (EXPRESS, "export", "yes", "enum value set: [true, false]"),
    ],
)
def test_a_refusal_names_value_member_and_range(model: FoundationModel, name: str, value: str, wanted: str) -> None:
    message = refusal(model, {name: value})
    assert message.startswith("1 validation error detected: Value '")
    assert f"at 'hyperParameters.{name}' failed to satisfy constraint: Member must" in message
    assert wanted in message
    assert value[:64] in message


def test_an_unknown_name_lists_the_allowed_ones() -> None:
    message = refusal(EXPRESS, {"epochs": "3"})
    assert "'hyperParameters.epochs'" in message
    assert "amazon.titan-text-express-v1:0:8k" in message
    for name in (*DEFAULTS, *OURS):
        assert name in message


def test_all_faults_at_once() -> None:
    message = refusal(EXPRESS, {"epochCount": "99", "epochs": "3", "learningRate": "x"})
    assert message.startswith("3 validation errors detected: ")
    assert message.count("; ") == 2


def test_our_own_are_echoed_only_when_given() -> None:
    ours = {
        "method": "full",
        "loraRank": "8",
        "loraAlpha": "16",
        "seed": "7",
        "maxSequenceLength": "512",
        "learningRateSchedule": "cosine",
        "export": "true",
    }
    assert set(ours) == set(OURS)
    assert check(EXPRESS, ours) == {**DEFAULTS, **ours}


def test_rules_that_other_models_need() -> None:
    rules = {
        "stepCount": Parameter(type="int", min=10, max=40_000, required=True, words=("auto",)),
        "batchSize": Parameter(type="int", min=1, max=8),
    }
    assert echo("m", rules, {"stepCount": "Auto"}) == {"stepCount": "Auto"}
    assert echo("m", rules, {"stepCount": "10", "batchSize": "1"}) == {"stepCount": "10", "batchSize": "1"}
    with pytest.raises(ValidationException, match=r"'hyperParameters.stepCount'.*must not be null"):
        echo("m", rules, {})
    with pytest.raises(ValidationException, match=r"between 10 and 40000, or one of \[auto\]"):
        echo("m", rules, {"stepCount": "soon"})


@given(st.dictionaries(st.text(max_size=80), st.text(max_size=80), max_size=5))
def test_whatever_is_sent_is_either_echoed_or_refused(values: dict[str, str]) -> None:
    try:
        kept = check(EXPRESS, values)
    except ValidationException:
        assert len(refusal(EXPRESS, values)) < 8192
    else:
        assert kept.items() >= values.items()
