"""From a request to what the child is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.origin import Origin, origin_of_foundation
from outcrop.children import read_spec, write_spec
from outcrop.errors import OutcropError
from outcrop.jobs.spec import specifier, train_spec
from outcrop.records import Job, TrainSpec
from tests.jobs.world import LONG_ID, World

CATALOG = Catalog.load()
BUNDLED = "bundled:text"


def start(weights: str = BUNDLED) -> Origin:
    return origin_of_foundation(CATALOG, weights)


def spec(job: Job) -> TrainSpec:
    return train_spec(job, CATALOG, start())[0]


def test_every_member_comes_from_the_request_or_the_catalogue(world: World) -> None:
    job = world.job(
        epochCount="3",
        batchSize="4",
        learningRate="0.00001",
        learningRateWarmupSteps="7",
        method="full",
        loraRank="8",
        loraAlpha="12.5",
        seed="11",
        maxSequenceLength="256",
        learningRateSchedule="cosine",
        export="true",
    )
    row = CATALOG.find(LONG_ID)
    rate, _ = CATALOG.effective_learning_rate(row, "full", 1e-5, BUNDLED)
    assert train_spec(job, CATALOG, start(), 5.0) == (
        TrainSpec(
            job_arn=job.arn,
            job_id=job.id,
            base_model_id=LONG_ID,
            base=str(CATALOG.weights_folder(BUNDLED)),
            base_name=BUNDLED,
            training="s3://bucket/train.jsonl",
            output="s3://bucket/out",
            validation=("s3://bucket/validation.jsonl",),
            format="prompt-completion",
            limits=CATALOG.limits(row, 4),
            method="full",
            epochs=3,
            batch_size=4,
            learning_rate=rate,
            warmup_steps=7,
            schedule="cosine",
            lora_rank=8,
            lora_alpha=12.5,
            seed=11,
            max_sequence_length=256,
            export=True,
            checkpoint_seconds=5.0,
            hyperparameters=job.request["hyperParameters"],
            model_name="model-0",
        ),
        None,
    )


def test_what_is_not_asked_for_has_the_plain_defaults(world: World) -> None:
    told = spec(world.job())
    assert (told.method, told.schedule, told.seed, told.export) == ("lora", "linear", 0, False)
    assert told.max_sequence_length is None


def test_alpha_follows_the_rank(world: World) -> None:
    assert spec(world.job()).lora_alpha == 2 * spec(world.job()).lora_rank
    assert spec(world.job(loraRank="4")).lora_alpha == 8


def test_ten_validators_keep_their_order_and_none_is_none(world: World) -> None:
    job = world.job()
    uris = [f"s3://bucket/{number}.jsonl" for number in range(10)]
    many = replace(job, request={**job.request, "validationDataConfig": {"validators": [{"s3Uri": u} for u in uris]}})
    assert spec(many).validation == tuple(uris)
    assert spec(replace(job, request={**job.request, "validationDataConfig": {"validators": []}})).validation == ()
    without = {name: value for name, value in job.request.items() if name != "validationDataConfig"}
    assert spec(replace(job, request=without)).validation == ()


def test_a_rate_above_the_ceiling_is_capped_with_a_warning(world: World) -> None:
    told, warning = train_spec(world.job(learningRate="1.0"), CATALOG, start())
    assert told.learning_rate == CATALOG.weights[BUNDLED].learning_rate_ceiling["lora"]
    assert warning is not None
    assert "learningRate 1" in warning


def test_the_weights_are_those_chosen_when_the_job_starts(world: World) -> None:
    job, specify = world.job(), specifier(CATALOG, world.store.models, world.models, 60.0)
    assert specify(job)[0].base_name == BUNDLED
    other = str(CATALOG.weights_folder(BUNDLED))
    world.store.models.use_weights(LONG_ID, other)
    assert (specify(job)[0].base_name, specify(job)[0].base) == (other, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_model_id": "amazon.gone-v1"}, "amazon.gone-v1"),
        ({"request": {"customizationType": "DISTILLATION"}}, f"{LONG_ID} has no DISTILLATION"),
        (
            {"request": {"baseModelIdentifier": "arn:aws:bedrock:us-east-1:1:custom-model/x/y"}},
            "no model arn:aws:bedrock:us-east-1:1:custom-model/x/y",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(world: World, change: dict[str, object], words: str) -> None:
    job = world.job()
    if "request" in change:
        change = {"request": {**job.request, **change["request"]}}  # type: ignore[dict-item]
    with pytest.raises(OutcropError, match=words):
        specifier(CATALOG, world.store.models, world.models, 60.0)(replace(job, **change))  # type: ignore[arg-type]


def test_a_spec_survives_its_file(world: World, tmp_path: Path) -> None:
    told = spec(world.job(maxSequenceLength="99"))
    write_spec(told, tmp_path / "spec.json")
    assert read_spec(tmp_path / "spec.json") == told
    assert (tmp_path / "spec.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "{}", '{"job_arn": 7}'])
def test_a_broken_spec_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(OutcropError, match=r"spec\.json"):
        read_spec(tmp_path / "spec.json")
