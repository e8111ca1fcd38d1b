"""The tables of the documents and of AWS's guide, written out here once more, against the rows: ids, ranges, quotas."""

from pathlib import Path
from typing import Any

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.rows import Customization, FoundationModel
from outcrop.datasets.check import check_file
from outcrop.errors import ValidationException

CATALOG = Catalog.load()
GB = 1_073_741_824
MB = 1_048_576

EXPRESS = "amazon.titan-text-express-v1"
LITE = "amazon.titan-text-lite-v1"
PREMIER = "amazon.titan-text-premier-v1:0"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
COMMAND = "cohere.command-text-v14"
LIGHT = "cohere.command-light-text-v14"
LLAMA_2 = ("meta.llama2-13b-v1:0:4k", "meta.llama2-70b-v1:0:4k")
LLAMA_31 = ("meta.llama3-1-8b-instruct-v1:0", "meta.llama3-1-70b-instruct-v1:0")
LLAMA_32 = ("meta.llama3-2-1b-instruct-v1:0", "meta.llama3-2-3b-instruct-v1:0")
LLAMA_33 = "meta.llama3-3-70b-instruct-v1:0"
NOVA = ("amazon.nova-micro-v1:0", "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0")

# What a caller may send as baseModelIdentifier, and what is invoked on demand.
LONG_IDS = {
    "amazon.titan-text-express-v1:0:8k": EXPRESS,
    "amazon.titan-text-lite-v1:0:4k": LITE,
    "amazon.titan-text-premier-v1:0:32k": PREMIER,
    "amazon.nova-micro-v1:0:128k": "amazon.nova-micro-v1:0",
    "amazon.nova-lite-v1:0:300k": "amazon.nova-lite-v1:0",
    "amazon.nova-pro-v1:0:300k": "amazon.nova-pro-v1:0",
    "anthropic.claude-3-haiku-20240307-v1:0:200k": HAIKU,
    "cohere.command-text-v14:7:4k": COMMAND,
    "cohere.command-light-text-v14:7:4k": LIGHT,
    "meta.llama2-13b-v1:0:4k": "meta.llama2-13b-chat-v1",
    "meta.llama2-70b-v1:0:4k": "meta.llama2-70b-chat-v1",
    "meta.llama3-1-8b-instruct-v1:0:128k": "meta.llama3-1-8b-instruct-v1:0",
    "meta.llama3-1-70b-instruct-v1:0:128k": "meta.llama3-1-70b-instruct-v1:0",
    "meta.llama3-2-1b-instruct-v1:0:128k": "meta.llama3-2-1b-instruct-v1:0",
    "meta.llama3-2-3b-instruct-v1:0:128k": "meta.llama3-2-3b-instruct-v1:0",
    "meta.llama3-3-70b-instruct-v1:0:128k": LLAMA_33,
}

# Provisioned Throughput knows these beside the long ids.
VARIANTS = {
    "amazon.nova-micro-v1:0:24k": "amazon.nova-micro-v1:0:128k",
    "amazon.nova-lite-v1:0:24k": "amazon.nova-lite-v1:0:300k",
    "amazon.nova-pro-v1:0:24k": "amazon.nova-pro-v1:0:300k",
    "anthropic.claude-3-haiku-20240307-v1:0:48k": "anthropic.claude-3-haiku-20240307-v1:0:200k",
    "meta.llama2-13b-chat-v1:0:4k": "meta.llama2-13b-v1:0:4k",
    "meta.llama2-70b-chat-v1:0:4k": "meta.llama2-70b-v1:0:4k",
}

# (name, type, least, most, default); two values beyond each end are made of them below.
HYPERPARAMETERS: list[tuple[tuple[str, ...], list[tuple[str, str, float, float, str | None]]]] = [
    (
        (EXPRESS, LITE),
        [
            ("epochCount", "int", 1, 10, "5"),
            ("batchSize", "int", 1, 64, "1"),
            ("learningRate", "float", 0.0, 1, "1.0E-5"),
            ("learningRateWarmupSteps", "int", 0, 250, "5"),
        ],
    ),
    (
        (PREMIER,),
        [
            ("epochCount", "int", 1, 5, "2"),
            ("batchSize", "int", 1, 1, "1"),
            ("learningRate", "float", 1e-7, 1e-5, "1.0E-6"),
            ("learningRateWarmupSteps", "int", 0, 20, "5"),
        ],
    ),
    (
        (HAIKU,),
        [
            ("epochCount", "int", 1, 10, "2"),
            ("batchSize", "int", 4, 256, "32"),
            ("learningRateMultiplier", "float", 0.1, 2, "1"),
            ("earlyStoppingThreshold", "float", 0, 0.1, "0.001"),
            ("earlyStoppingPatience", "int", 1, 10, "2"),
        ],
    ),
    (
        (COMMAND,),
        [
            ("epochCount", "int", 1, 100, "1"),
            ("batchSize", "int", 8, 8, "8"),
            ("learningRate", "float", 5e-6, 0.1, "1.0E-5"),
            ("earlyStoppingThreshold", "float", 0, 0.1, "0.01"),
            ("earlyStoppingPatience", "int", 1, 10, "6"),
            ("evalPercentage", "float", 5, 50, "20"),
        ],
    ),
    (
        (LIGHT,),
        [
            ("epochCount", "int", 1, 100, "1"),
            ("batchSize", "int", 8, 32, "8"),
            ("learningRate", "float", 5e-6, 0.1, "1.0E-5"),
            ("earlyStoppingThreshold", "float", 0, 0.1, "0.01"),
            ("earlyStoppingPatience", "int", 1, 10, "6"),
            ("evalPercentage", "float", 5, 50, "20"),
        ],
    ),
    (
        (*LLAMA_2, *LLAMA_31, *LLAMA_32, LLAMA_33),
        [
            ("epochCount", "int", 1, 10, "5"),
            ("batchSize", "int", 1, 1, "1"),
            ("learningRate", "float", 5e-6, 0.1, "1.0E-4"),
        ],
    ),
    (
        NOVA,
        [
            ("epochCount", "int", 1, 5, "2"),
            ("learningRate", "float", 1e-6, 1e-4, "1.0E-5"),
            ("learningRateWarmupSteps", "int", 0, 100, "10"),
            ("batchSize", "int", 1, 64, None),
        ],
    ),
]
CASES = [(model, rules) for models, rules in HYPERPARAMETERS for model in models]

# (customization, batch size, what is not None)
PAIR_OF_4096_AND_2048 = {"max_input_tokens": 4096, "max_output_tokens": 2048, "characters_per_token": 6}
COHERE = {**PAIR_OF_4096_AND_2048, "min_records": 32, "max_records": 10_000, "max_validation_records": 1000}
LLAMA_3 = {"max_total_tokens": 16_000, "characters_per_token": 6, "min_sum_records": 100, "max_sum_records": 10_000}
FILES = {"characters_per_token": 6, "max_training_bytes": GB, "max_validation_bytes": 100 * MB}
DOCUMENT_FILES = {"characters_per_token": 6, "max_training_bytes": 10 * GB, "max_validation_bytes": 100 * MB}
FINE: Customization = "FINE_TUNING"
CONTINUED: Customization = "CONTINUED_PRE_TRAINING"
LIMITS: list[tuple[str, Customization, int, dict[str, Any]]] = [
    *((PREMIER, FINE, batch, {**FILES, "max_total_tokens": 4096}) for batch in (1,)),
    (EXPRESS, FINE, 1, {**FILES, "max_total_tokens": 4096}),
    *((EXPRESS, FINE, batch, {**FILES, "max_total_tokens": 2048}) for batch in (2, 3, 4, 5, 64)),
    (EXPRESS, CONTINUED, 1, {**DOCUMENT_FILES, "max_total_tokens": 4096}),
    *((EXPRESS, CONTINUED, batch, {**DOCUMENT_FILES, "max_total_tokens": 2048}) for batch in (2, 3, 4)),
    *((LITE, FINE, batch, {**FILES, "max_total_tokens": 4096}) for batch in (1, 2)),
    *((LITE, FINE, batch, {**FILES, "max_total_tokens": 2048}) for batch in (3, 4, 5, 6, 7)),
    *((LITE, CONTINUED, batch, {**DOCUMENT_FILES, "max_total_tokens": 4096}) for batch in (1, 2)),
    *((LITE, CONTINUED, batch, {**DOCUMENT_FILES, "max_total_tokens": 2048}) for batch in (3, 6)),
    *((model, FINE, batch, COHERE) for model in (COMMAND, LIGHT) for batch in (8, 32)),
    *((model, FINE, 1, PAIR_OF_4096_AND_2048) for model in LLAMA_2),
    *(
        (model, FINE, 1, {**LLAMA_3, "max_records": 10_000, "max_validation_records": 1000})
        for model in (*LLAMA_31, *LLAMA_32)
    ),
    (LLAMA_33, FINE, 1, LLAMA_3),
    (
        HAIKU,
        FINE,
        32,
        {
            "max_total_tokens": 32_000,
            "characters_per_token": 3,
            "min_records": 32,
            "max_records": 10_000,
            "min_validation_records": 32,
            "max_validation_records": 1000,
            "max_sum_records": 10_000,
            "max_training_bytes": 10 * GB,
            "max_validation_bytes": GB,
            "reserved": ("\nHuman:", "\nAssistant:"),
        },
    ),
    *(
        (
            model,
            FINE,
            1,
            {
                "max_total_tokens": 32_768,
                "characters_per_token": 6,
                "min_records": 8,
                "max_records": 20_000,
                "max_sum_records": 20_000,
                "reserved": ("User:", "Bot:", "Assistant:", "System:", "<image>", "<video>", "[EOS]"),
            },
        )
        for model in NOVA
    ),
]
BEYOND = [PREMIER, HAIKU, COMMAND, LIGHT, *LLAMA_2, *LLAMA_31, *LLAMA_32, LLAMA_33, *NOVA]
FORMATS = {
    "prompt-completion": [EXPRESS, LITE, PREMIER, COMMAND, LIGHT, *LLAMA_2, *LLAMA_31],
    "messages": [HAIKU],
    "conversation": [*LLAMA_32, LLAMA_33, *NOVA],
}
BODIES = {
    "titan-text": [EXPRESS, LITE, PREMIER],
    "claude-messages": [HAIKU],
    "cohere-command": [COMMAND, LIGHT],
    "llama": [*LLAMA_2, *LLAMA_31, *LLAMA_32, LLAMA_33],
    "nova": [*NOVA],
}
ALL = {"chat", "stream", "system", "documents", "vision", "tools", "streamed_tools"}
CONVERSE: dict[str, set[str]] = {
    EXPRESS: {"chat", "stream", "documents"},
    LITE: {"chat", "stream", "documents"},
    PREMIER: {"chat", "stream"},
    HAIKU: ALL,
    COMMAND: {"stream", "documents"},
    LIGHT: {"stream", "documents"},
    **{model: {"chat", "stream", "system", "documents"} for model in (*LLAMA_2, *LLAMA_32)},
    **{model: {"chat", "stream", "system", "documents", "tools"} for model in (*LLAMA_31, LLAMA_33)},
    "amazon.nova-micro-v1:0": {"chat", "stream", "system", "tools", "streamed_tools"},
    "amazon.nova-lite-v1:0": ALL,
    "amazon.nova-pro-v1:0": ALL,
}
# Training per 1,000 tokens, storage a month, unit hour without commitment.
PRICES: dict[str, tuple[float | None, float | None, float | None]] = {
    EXPRESS: (0.008, 1.95, 20.50),
    LITE: (0.0004, 1.95, 7.10),
    COMMAND: (0.004, 1.95, 49.50),
    LIGHT: (0.001, 1.95, 8.56),
    LLAMA_2[0]: (0.00149, 1.95, None),
    LLAMA_2[1]: (0.00799, 1.95, None),
    LLAMA_31[0]: (0.00149, 1.95, None),
    LLAMA_33: (None, 1.95, None),
    "amazon.nova-micro-v1:0": (0.001, 1.95, 60.50),
}


def row(model_id: str) -> FoundationModel:
    found = CATALOG.find(model_id)
    assert found is not None, model_id
    return found


def test_the_rows_are_those_of_the_documents() -> None:
    assert {one.long_id for one in CATALOG.rows} == set(LONG_IDS)
    assert len(CATALOG.rows) == 16


@pytest.mark.parametrize(("long_id", "short"), LONG_IDS.items())
def test_ids(long_id: str, short: str) -> None:
    one = row(long_id)
    assert (one.id, one.long_id) == (short, long_id)
    for model_id in (short, long_id):
        assert CATALOG.find(model_id) is one
        assert CATALOG.find(f"arn:aws:bedrock:us-west-2::foundation-model/{model_id}") is one
    assert one.inference_types(short) == ("ON_DEMAND",)
    assert one.inference_types(long_id) == ("PROVISIONED",)
    assert one.customizations_of(short) == ()
    assert "FINE_TUNING" in one.customizations_of(long_id)


@pytest.mark.parametrize(("variant", "long_id"), VARIANTS.items())
def test_context_variants_are_provisioned_only(variant: str, long_id: str) -> None:
    one = row(variant)
    assert one.long_id == long_id
    assert one.inference_types(variant) == ("PROVISIONED",)
    assert one.customizations_of(variant) == ()


@pytest.mark.parametrize(("model", "rules"), CASES)
def test_hyperparameters(model: str, rules: list[tuple[str, str, float, float, str | None]]) -> None:
    one = row(model)
    for kind, way in one.customizations.items():
        assert set(way.hyperparameters) == {name for name, *_ in rules}
        assert CATALOG.hyperparameters(one, kind, {}) == {name: default for name, *_, default in rules if default}
        for name, type_, least, most, default in rules:
            rule = way.hyperparameters[name]
            assert (rule.type, rule.min, rule.max, rule.default) == (type_, least, most, default)
            for inside in (least, most):
                typed = f"{inside:.0f}" if type_ == "int" else f"{inside:g}"
                assert CATALOG.hyperparameters(one, kind, {name: typed})[name] == typed
            step = 1 if type_ == "int" else (most - least) / 1e4
            for outside in (least - step, most + step, "auto"):
                typed = outside if isinstance(outside, str) else f"{outside:.10g}"
                with pytest.raises(ValidationException) as caught:
                    CATALOG.hyperparameters(one, kind, {name: typed})
                assert f"Value '{typed}' at 'hyperParameters.{name}'" in caught.value.message
                assert f"between {least:.12g} and {most:.12g}" in caught.value.message


@pytest.mark.parametrize("model", [one.long_id for one in CATALOG.rows])
def test_unknown_names_are_told_the_allowed_ones(model: str) -> None:
    one = row(model)
    for kind, way in one.customizations.items():
        with pytest.raises(ValidationException) as caught:
            CATALOG.hyperparameters(one, kind, {"epochs": "3"})
        for name in way.hyperparameters:
            assert name in caught.value.message


def test_claude_has_no_learning_rate_of_its_own() -> None:
    with pytest.raises(ValidationException, match="learningRateMultiplier"):
        CATALOG.hyperparameters(row(HAIKU), "FINE_TUNING", {"learningRate": "1e-5"})


@pytest.mark.parametrize(("model", "kind", "batch", "wanted"), LIMITS)
def test_quotas(model: str, kind: Customization, batch: int, wanted: dict[str, Any]) -> None:
    limits = CATALOG.limits(row(model), batch, kind)
    told = {name: getattr(limits, name) for name in limits.__slots__ if not name.startswith(("advised", "enforce"))}
    assert {name: value for name, value in told.items() if value not in (None, ())} == wanted
    assert limits.enforce_advice is False
    assert CATALOG.limits(row(model), batch, kind, enforce_advice=True).enforce_advice is True


def test_titan_takes_a_file_that_coheres_quota_refuses(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"prompt": "{n}?", "completion": "{n}."}}\n' for n in range(10_003)), "utf-8")
    titan, cohere = (
        check_file(path, "prompt-completion", CATALOG.limits(row(model), 8), "train") for model in (EXPRESS, COMMAND)
    )
    assert titan.passed
    assert [fault.kind for fault in cohere.faults] == ["file"]
    assert "10003" in cohere.faults[0].reason


@pytest.mark.parametrize("model", [EXPRESS, LITE, PREMIER, COMMAND, LIGHT, *LLAMA_2, *LLAMA_31, *LLAMA_32, LLAMA_33])
def test_the_guide_advises_minima_for_the_models_that_it_names(model: str) -> None:
    fine, continued = (CATALOG.limits(row(model), 1, kind) for kind in (FINE, CONTINUED))
    assert (fine.advised_records, fine.advised_tokens) == (1000, None)
    assert (continued.advised_records, continued.advised_tokens) == (None, 100_000)


@pytest.mark.parametrize("model", [EXPRESS, LITE])
def test_aws_pre_trains_titan_express_and_lite(model: str) -> None:
    assert row(model).customizations_of(row(model).long_id) == ("FINE_TUNING", "CONTINUED_PRE_TRAINING")


@pytest.mark.parametrize("model", BEYOND)
def test_every_other_row_is_pre_trained_here_and_not_listed_so(model: str) -> None:
    one = row(model)
    assert one.customizations_of(one.long_id) == ("FINE_TUNING",)
    way = one.customizations["CONTINUED_PRE_TRAINING"]
    assert (way.format, way.beyond_aws) == ("text", True)
    limits = CATALOG.limits(one, 1, "CONTINUED_PRE_TRAINING")
    assert limits.max_total_tokens is limits.max_training_bytes is limits.max_records is None


def test_formats_bodies_and_converse() -> None:
    formats = {one.long_id: one.customizations["FINE_TUNING"].format for one in CATALOG.rows}
    bodies = {one.long_id: one.body for one in CATALOG.rows}
    assert formats == {row(model).long_id: name for name, models in FORMATS.items() for model in models}
    assert bodies == {row(model).long_id: name for name, models in BODIES.items() for model in models}
    assert {one.long_id: one.converse for one in CATALOG.rows} == {
        row(model).long_id: features for model, features in CONVERSE.items()
    }


def test_prices() -> None:
    for one in CATALOG.rows:
        named = next((prices for model, prices in PRICES.items() if row(model) is one), None)
        prices = one.prices
        if named is None:
            assert (prices.training_per_1k_tokens, prices.unit_hour) == (None, None)
        else:
            assert (prices.training_per_1k_tokens, prices.storage_per_month, prices.unit_hour) == named
    for model in LLAMA_2:
        prices = row(model).prices
        assert (prices.unit_hour_one_month, prices.unit_hour_six_months) == (21.18, 13.08)


@pytest.mark.parametrize("model", [one.long_id for one in CATALOG.rows])
def test_every_rows_own_default_lands_on_the_weights_own_rate(model: str) -> None:
    one = row(model)
    bundled = CATALOG.weights["bundled:text"]
    for kind, way in one.customizations.items():
        default = float(way.hyperparameters[way.rate].default or "nan")
        assert CATALOG.effective_learning_rate(one, "lora", default, None, kind) == (
            bundled.learning_rate["lora"],
            None,
        )
        rate, _ = CATALOG.effective_learning_rate(one, "full", default / 2, "/models/x", kind)
        assert rate == pytest.approx(CATALOG.weights["other"].learning_rate["full"] / 2)


def test_a_multiplier_multiplies() -> None:
    bundled = CATALOG.weights["bundled:text"]
    for asked in (0.1, 0.5, 2.0):
        rate, warning = CATALOG.effective_learning_rate(row(HAIKU), "lora", asked)
        assert rate == pytest.approx(asked * bundled.learning_rate["lora"])
        assert warning is None
