"""What each row's hyperparameters become for the child, and where a job that starts from a custom model begins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.origin import origin_of_foundation
from outcrop.errors import OutcropError
from outcrop.jobs.spec import specifier, train_spec
from outcrop.records import Job, Model, TrainSpec
from tests.jobs.world import LONG_ID, World

CATALOG = Catalog.load()
BUNDLED = "bundled:text"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0:200k"
COMMAND = "cohere.command-text-v14:7:4k"
NOVA = "amazon.nova-micro-v1:0:128k"
LLAMA = "meta.llama3-1-8b-instruct-v1:0:128k"
PREMIER = "amazon.titan-text-premier-v1:0:32k"


def asked(world: World, long_id: str, kind: str = "FINE_TUNING", **given: str) -> Job:
    """A job of a row as the API keeps it: defaults filled in, a custom model's rules being its foundation's."""
    row = CATALOG.find(long_id)
    assert row is not None
    job = world.job()
    echoed = CATALOG.hyperparameters(row, kind, given)  # type: ignore[arg-type]
    request = {
        **job.request,
        "hyperParameters": echoed,
        "customizationType": kind,
        "validationDataConfig": {"validators": []},
    }
    return replace(job, base_model_id=long_id, request=request)


def told(job: Job) -> TrainSpec:
    return train_spec(job, CATALOG, origin_of_foundation(CATALOG, BUNDLED))[0]


RATE = CATALOG.weights[BUNDLED].learning_rate["lora"]


@pytest.mark.parametrize(
    ("long_id", "given", "expected"),
    [
        (LONG_ID, {}, {"epochs": 5, "batch_size": 1, "warmup_steps": 5, "learning_rate": RATE}),
        (LONG_ID, {"learningRate": ".000005"}, {"learning_rate": RATE / 2}),
        (LONG_ID, {"learningRate": "5e-6"}, {"learning_rate": RATE / 2}),
        (PREMIER, {"learningRate": "1.00E-07"}, {"epochs": 2, "learning_rate": RATE / 10}),
        (NOVA, {}, {"epochs": 2, "batch_size": 1, "warmup_steps": 10, "learning_rate": RATE}),
        (NOVA, {"batchSize": "1"}, {"batch_size": 1}),
        (LLAMA, {"epochCount": "2"}, {"epochs": 2, "batch_size": 1, "learning_rate": RATE, "warmup_steps": 0}),
        (
            HAIKU,
            {"learningRateMultiplier": "0.5"},
            {
                "epochs": 2,
                "batch_size": 32,
                "learning_rate": RATE / 2,
                "early_stopping_patience": 2,
                "early_stopping_threshold": 0.001,
                "evaluation_share": None,
            },
        ),
        (HAIKU, {"earlyStoppingPatience": "7", "earlyStoppingThreshold": "0"}, {
            "early_stopping_patience": 7, "early_stopping_threshold": 0.0,
        }),
        (
            COMMAND,
            {},
            {
                "epochs": 1,
                "batch_size": 8,
                "learning_rate": RATE,
                "early_stopping_patience": 6,
                "early_stopping_threshold": 0.01,
                "evaluation_share": 0.2,
            },
        ),
        (COMMAND, {"evalPercentage": "12.5"}, {"evaluation_share": 0.125}),
        (LONG_ID, {}, {"early_stopping_patience": None, "evaluation_share": None}),
    ],
)  # fmt: skip
def test_each_rows_hyperparameters_reach_the_child(
    world: World, long_id: str, given: dict[str, str], expected: dict[str, Any]
) -> None:
    spec = told(asked(world, long_id, **given))
    found = {name: getattr(spec, name) for name in expected}
    assert found == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, value in expected.items()
    }
    assert given.items() <= spec.hyperparameters.items()


def test_nothing_is_held_out_where_validation_files_are_given(world: World) -> None:
    job = asked(world, COMMAND, evalPercentage="25")
    assert told(job).evaluation_share == 0.25
    validators = {"validators": [{"s3Uri": "s3://bucket/validation.jsonl"}]}
    spec = told(replace(job, request={**job.request, "validationDataConfig": validators}))
    assert (spec.evaluation_share, spec.validation) == (None, ("s3://bucket/validation.jsonl",))
    assert spec.hyperparameters["evalPercentage"] == "25", "it is echoed all the same"


@pytest.mark.parametrize("row", [row.long_id for row in CATALOG.rows])
def test_every_row_and_kind_has_a_spec(world: World, row: str) -> None:
    found = CATALOG.find(row)
    assert found is not None
    for kind, way in found.customizations.items():
        spec = told(asked(world, row, kind))
        assert (spec.format, spec.customization, spec.limits) == (
            way.format,
            kind,
            CATALOG.limits(found, spec.batch_size, kind),
        )


def test_continued_pre_training_has_the_format_and_quotas_of_texts(world: World) -> None:
    spec = told(asked(world, LONG_ID, "CONTINUED_PRE_TRAINING"))
    assert (spec.format, spec.customization) == ("text", "CONTINUED_PRE_TRAINING")
    assert spec.limits.max_training_bytes == 10 * 1024**3


def test_advice_is_enforced_only_where_a_setting_says_so(world: World) -> None:
    job = asked(world, LONG_ID)
    for enforced in (False, True):
        specify = specifier(CATALOG, world.store.models, world.models, 60.0, enforce_advice=enforced)
        assert specify(job)[0].limits.enforce_advice is enforced


def test_auto_is_the_number_that_the_row_says(world: World, tmp_path: Path) -> None:
    table = tmp_path / "own.toml"
    table.write_text(
        '[models."my.model-v1"]\nname = "Mine"\nweights = "bundled:text"\nbody = "nova"\n'
        '[models."my.model-v1".customizations.FINE_TUNING.hyperparameters.epochCount]\n'
        'type = "int"\nmin = 1\nmax = 9\nwords = ["auto"]\nauto = "4"\ndefault = "2"\n'
        '[models."my.model-v1".customizations.FINE_TUNING.hyperparameters.learningRate]\n'
        'type = "float"\nmin = 0\nmax = 1\ndefault = "1.0E-5"\n'
    )
    catalog = Catalog.load(table)
    row = catalog.find("my.model-v1")
    assert row is not None
    for given, epochs in (({"epochCount": "Auto"}, 4), ({}, 2), ({"epochCount": "9"}, 9)):
        echoed = catalog.hyperparameters(row, "FINE_TUNING", given)
        job = world.job()
        job = replace(job, base_model_id=row.long_id, request={**job.request, "hyperParameters": echoed})
        spec, _ = train_spec(job, catalog, origin_of_foundation(catalog, BUNDLED))
        assert spec.epochs == epochs
        assert spec.hyperparameters["epochCount"] == echoed["epochCount"]


# ------------------------------------------------------------------------------------------------- custom models


def parent(world: World, method: str = "lora", weights: str = BUNDLED) -> Model:
    """A custom model that an earlier job left."""
    job = world.job()
    model = Model(
        arn=f"arn:aws:bedrock:us-east-1:123456789012:custom-model/{LONG_ID}/parent{len(world.jobs):06d}",
        id=f"parent{len(world.jobs):06d}",
        name=job.request["customModelName"],
        region="us-east-1",
        status="Active",
        base_model_id=LONG_ID,
        job_arn=job.arn,
        document={},
        method=method,
        base_weights=weights,
        created=world.clock(),
    )
    (world.models / model.id).mkdir()
    world.store.jobs.complete(job.arn, model, {}, world.clock())
    return model


def child(world: World, model: Model, **given: str) -> TrainSpec:
    job = world.job(**given)
    job = replace(job, request={**job.request, "baseModelIdentifier": model.arn})
    return specifier(CATALOG, world.store.models, world.models, 60.0)(job)[0]


def test_an_adapter_is_started_from_upon_its_base(world: World) -> None:
    model = parent(world)
    spec = child(world, model)
    assert (spec.base, spec.base_name) == (str(CATALOG.weights_folder(BUNDLED)), BUNDLED)
    assert (spec.parent, spec.parent_arn, spec.whole_parent) == (str(world.models / model.id), model.arn, False)


def test_a_whole_model_is_the_base_itself(world: World) -> None:
    model = parent(world, method="full")
    spec = child(world, model)
    assert (spec.base, spec.base_name) == (str(world.models / model.id), BUNDLED)
    assert (spec.parent, spec.parent_arn, spec.whole_parent) == (None, model.arn, True)


def test_a_chain_keeps_its_weights_and_their_rates_whatever_the_id_runs_by_now(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in CATALOG.weights_folder(BUNDLED).iterdir():
        (other / path.name).symlink_to(path)
    before, of_other = parent(world), parent(world, weights=str(other))
    world.store.models.use_weights(LONG_ID, str(other))
    assert told_rate(child(world, before)) == (BUNDLED, CATALOG.weights[BUNDLED].learning_rate["lora"])
    assert told_rate(child(world, of_other)) == (str(other), CATALOG.weights["other"].learning_rate["lora"])
    world.store.models.use_weights(LONG_ID, None)
    assert child(world, of_other).base == str(other)


def test_the_length_that_a_rate_suits_belongs_to_weights_and_method(world: World) -> None:
    suited = CATALOG.weights[BUNDLED].learning_rate_steps["lora"]
    assert told(world.job()).rate_steps == suited
    assert told(world.job(method="full")).rate_steps is None
    world.store.models.use_weights(LONG_ID, str(CATALOG.weights_folder(BUNDLED)))
    folder = specifier(CATALOG, world.store.models, world.models, 60.0)(world.job())[0]
    assert (folder.base_name, folder.rate_steps) == (str(CATALOG.weights_folder(BUNDLED)), None)


def told_rate(spec: TrainSpec) -> tuple[str, float]:
    return spec.base_name, spec.learning_rate


def test_a_parent_whose_weights_are_gone_fails_the_job_by_name(world: World) -> None:
    model = parent(world)
    (world.models / model.id).rmdir()
    with pytest.raises(OutcropError, match=f"the weights of {model.arn} are not at"):
        child(world, model)


@pytest.mark.parametrize(
    ("method", "asked_for", "made"), [("lora", "lora", "lora"), ("lora", "full", "full"), ("full", "lora", "full")]
)
def test_the_model_that_is_written_says_what_it_is(world: World, method: str, asked_for: str, made: str) -> None:
    model = parent(world, method)
    job = world.job(["model", DONE_OF_A_CHILD], method=asked_for)
    world.store.jobs.fail(job.arn, "only its request is wanted", world.clock())
    number = len(world.jobs)
    request = {**job.request, "baseModelIdentifier": model.arn, "customModelName": "chained", "jobName": "chained"}
    job = replace(job, arn=f"{job.arn[:-12]}job{number:09d}", id=f"job{number:09d}", name="chained", request=request)
    world.jobs.append(world.store.jobs.add(job, None, "chained"))
    finished = world.until_status(job, "Completed", "Failed")
    assert finished.status == "Completed", finished.failure
    left = world.store.models.find("us-east-1", "chained")
    assert left is not None
    assert (left.method, left.base_weights, left.document["baseModelArn"]) == (made, BUNDLED, model.arn)


DONE_OF_A_CHILD = {
    "kind": "done",
    "training_loss": 0.5,
    "validation_losses": [],
    "perplexity": 1.6,
    "tokens": 20,
    "scored_tokens": 8,
    "seconds": 3.5,
}
