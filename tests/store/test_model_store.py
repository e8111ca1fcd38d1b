"""Custom models in the store: found by name, ARN and the documents' form, kept while something needs them."""

from dataclasses import replace

import pytest

from outcrop.store.jobs import JobStore
from outcrop.store.listing import Listing
from outcrop.store.models import ModelStore
from outcrop.store.refusals import Gone, InUse
from outcrop.store.tags import TagStore
from outcrop.store.throughputs import ThroughputStore
from tests.store.resources import ACCOUNT, BASE_ARN, LONG_ID, REGION, at, job, model, throughput


@pytest.fixture
def made(jobs: JobStore) -> str:
    """The ARN of a model that a job left."""
    jobs.add(job(customModelTags=[{"key": "team", "value": "x"}]), None, "f")
    jobs.complete(job().arn, model(), {}, at(200))
    return model().arn


def test_every_spelling_of_a_model(models: ModelStore, made: str) -> None:
    kept = models.by_arn(made)
    assert kept is not None
    for identifier in ("model-1", made, f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/model-1"):
        assert models.find(REGION, identifier) == kept


@pytest.mark.parametrize(
    "identifier",
    [
        "model-2",
        "",
        "arn:",
        "mod000000001",
        f"arn:aws:bedrock:us-west-2:{ACCOUNT}:custom-model/model-1",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/model-1",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/{LONG_ID}/model-1",
    ],
)
def test_what_names_no_model(models: ModelStore, made: str, identifier: str) -> None:
    assert models.find(REGION, identifier) is None
    assert models.find("us-west-2", made) is None


def test_a_person_may_name_a_model_without_its_region(models: ModelStore, jobs: JobStore, made: str) -> None:
    west = jobs.add(job(2, region="us-west-2", customModelName="model-1"), None, "g")
    jobs.complete(west.arn, replace(model(2, region="us-west-2"), name="model-1"), {}, at(300))
    assert [found.region for found in models.named("model-1")] == ["us-west-2", REGION]
    for identifier in (made, "mod000000001", f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/model-1"):
        assert [found.arn for found in models.named(identifier)] == [made]
    assert models.named("nobody") == models.named("arn:") == models.named("") == []
    assert models.names() == ["model-1"]


def test_a_model_under_a_throughput_stays(
    models: ModelStore, throughputs: ThroughputStore, tags: TagStore, made: str
) -> None:
    throughputs.add(throughput(1, model_arn=made))
    with pytest.raises(InUse) as caught:
        models.delete(made)
    assert (caught.value.user, caught.value.name) == (throughput(1).arn, "pt-1")
    assert models.by_arn(made) is not None
    throughputs.delete(throughput(1).arn, at(500))
    models.delete(made)
    assert models.by_arn(made) is None
    assert tags.of(made) == []
    with pytest.raises(Gone):
        models.delete(made)


def test_a_model_that_a_throughput_is_moving_to_or_from_stays(
    jobs: JobStore, models: ModelStore, throughputs: ThroughputStore, made: str
) -> None:
    jobs.add(job(2), None, "f")
    jobs.complete(job(2).arn, model(2), {}, at(200))
    arn = throughputs.add(throughput(1, model_arn=made)).arn
    throughputs.in_service(arn, at(300))
    throughputs.update_asked(arn, name=None, model_arn=model(2).arn, now=at(301))
    for needed in (made, model(2).arn):
        with pytest.raises(InUse):
            models.delete(needed)
    throughputs.updated(arn, at(302))
    models.delete(made)


def test_filters(jobs: JobStore, models: ModelStore, made: str) -> None:
    def names(**asked: object) -> list[str]:
        return [item.name for item in models.page(REGION, Listing(**asked))[0]]  # type: ignore[arg-type]

    jobs.add(job(2), None, "f")
    jobs.complete(job(2).arn, model(2), {}, at(200))
    assert names() == ["model-2", "model-1"]
    assert names(equals={"base_arn": BASE_ARN}) == ["model-2", "model-1"]
    assert names(equals={"base_arn": made}) == []
    assert names(equals={"base_model_id": LONG_ID, "status": "Active"}) == ["model-2", "model-1"]
    assert names(equals={"status": "Creating"}) == []
    assert names(name_contains="-1") == ["model-1"]
