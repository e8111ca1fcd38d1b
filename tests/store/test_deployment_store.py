"""Custom model deployments in the store: every pair of states, names, tokens, updates, and the hold on their models."""

from collections.abc import Callable
from itertools import product

import pytest

from outcrop.lifecycle import DEPLOYMENT, DEPLOYMENT_UPDATE, IllegalMove, check
from outcrop.records import Deployment
from outcrop.store.deployments import DeploymentStore
from outcrop.store.jobs import JobStore
from outcrop.store.listing import Listing
from outcrop.store.models import ModelStore
from outcrop.store.refusals import Busy, Gone, InUse, NameTaken, OverQuota, TokenMismatch
from outcrop.store.tags import TagStore
from tests.store.resources import REGION, at, deployment, job, model


@pytest.fixture(autouse=True)
def custom(jobs: JobStore) -> None:
    """Two custom models."""
    for number in (1, 2):
        jobs.add(job(number), None, "f")
        jobs.complete(job(number).arn, model(number), {}, at(5))


def active(deployments: DeploymentStore, number: int = 1) -> Deployment:
    return deployments.proven(deployments.add(deployment(number)).arn, at(10))


def updating(deployments: DeploymentStore) -> Deployment:
    return deployments.update_asked(active(deployments).arn, model(2).arn, at(11))


@pytest.mark.parametrize("table", ["deployment", "deployment update"])
def test_every_pair_of_states(table: str) -> None:
    states = {"deployment": DEPLOYMENT, "deployment update": DEPLOYMENT_UPDATE}[table]
    for start, finish in product(states, states):
        if start == finish or finish in states[start]:
            check(table, "x", start, finish)
        else:
            with pytest.raises(IllegalMove, match=f"no move from {start} to {finish}"):
                check(table, "x", start, finish)


def test_created_then_active(deployments: DeploymentStore) -> None:
    made = deployments.add(deployment(description="for the shop"))
    assert deployments.by_arn(made.arn) == deployments.find(REGION, "deployment-1") == made
    moved = deployments.proven(made.arn, at(10))
    assert (moved.status, moved.update_status, moved.modified, moved.failure) == ("Active", None, at(10), None)
    assert deployments.proven(made.arn, at(11)) == moved


def test_created_then_failed_and_mended_by_an_update(deployments: DeploymentStore) -> None:
    arn = deployments.add(deployment()).arn
    failed = deployments.failed(arn, "x" * 5000, at(10))
    assert (failed.status, failed.failure) == ("Failed", "x" * 2047 + "…")
    assert deployments.failed(arn, "again", at(11)) == failed
    assert deployments.wanted([]) == []
    moving = deployments.update_asked(arn, model(2).arn, at(12))
    assert (moving.status, moving.update_status, moving.failure) == ("Failed", "Updating", None)
    assert deployments.wanted([]) == [moving]
    mended = deployments.proven(arn, at(13))
    assert (mended.status, mended.update_status, mended.model_arn) == ("Active", "UpdateCompleted", model(2).arn)


def test_the_old_model_stays_until_the_new_one_answers(deployments: DeploymentStore) -> None:
    moving = updating(deployments)
    assert (moving.status, moving.update_status) == ("Active", "Updating")
    assert (moving.model_arn, moving.desired_model_arn) == (model(1).arn, model(2).arn)
    assert deployments.wanted([]) == [moving]
    done = deployments.proven(moving.arn, at(12))
    assert (done.status, done.update_status, done.model_arn) == ("Active", "UpdateCompleted", model(2).arn)
    assert deployments.wanted([]) == []


def test_an_update_that_fails_leaves_the_old_model(deployments: DeploymentStore, models: ModelStore) -> None:
    moving = updating(deployments)
    with pytest.raises(InUse):
        models.delete(model(2).arn)
    failed = deployments.failed(moving.arn, "no memory", at(12))
    assert (failed.status, failed.update_status, failed.failure) == ("Active", "UpdateFailed", "no memory")
    assert (failed.model_arn, failed.desired_model_arn) == (model(1).arn, model(2).arn)
    models.delete(model(2).arn)
    again = deployments.update_asked(moving.arn, model(1).arn, at(13))
    assert (again.update_status, again.failure) == ("Updating", None)


def test_what_a_state_does_not_allow(deployments: DeploymentStore) -> None:
    arn = deployments.add(deployment()).arn
    with pytest.raises(Busy) as caught:
        deployments.update_asked(arn, model(2).arn, at(9))
    assert caught.value.status == "Creating"
    deployments.delete(arn)
    moving = updating(deployments)
    attempts: list[Callable[[], object]] = [
        lambda: deployments.update_asked(arn, model(1).arn, at(12)),
        lambda: deployments.delete(arn),
    ]
    for attempt in attempts:
        with pytest.raises(Busy) as caught:
            attempt()
        assert caught.value.status == "Updating"
    assert deployments.by_arn(arn) == moving


def test_a_deployed_model_cannot_be_deleted(deployments: DeploymentStore, models: ModelStore) -> None:
    made = deployments.add(deployment())
    with pytest.raises(InUse) as caught:
        models.delete(model(1).arn)
    assert (caught.value.user, caught.value.name) == (made.arn, made.name)
    deployments.delete(made.arn)
    models.delete(model(1).arn)
    with pytest.raises(Gone):
        deployments.add(deployment())
    other = active(deployments, 2)
    with pytest.raises(Gone):
        deployments.update_asked(other.arn, model(1).arn, at(12))


def test_names_tokens_and_tags(deployments: DeploymentStore, tags: TagStore) -> None:
    first = deployments.add(deployment(), "token", "same", tags=[{"key": "a", "value": "b"}])
    assert deployments.add(deployment(2, name=first.name), "token", "same") == first
    assert deployments.earlier(REGION, "token", "same") == first
    assert deployments.earlier(REGION, None, "same") is None
    with pytest.raises(TokenMismatch):
        deployments.add(deployment(2), "token", "other")
    with pytest.raises(NameTaken) as caught:
        deployments.add(deployment(2, name=first.name))
    assert caught.value.member == "modelDeploymentName"
    elsewhere = deployment(3, region="us-west-2", name=first.name, model_arn=model(1).arn)
    assert deployments.add(elsewhere, "token", "other") == elsewhere
    assert tags.of(first.arn) == [{"key": "a", "value": "b"}]
    deployments.delete(first.arn)
    assert tags.of(first.arn) == []
    with pytest.raises(Gone):
        deployments.delete(first.arn)


def test_only_so_many_are_being_created(deployments: DeploymentStore) -> None:
    first = deployments.add(deployment(), in_progress=1)
    with pytest.raises(OverQuota) as caught:
        deployments.add(deployment(2), in_progress=1)
    assert (caught.value.used, caught.value.quota) == (1, 1)
    deployments.proven(first.arn, at(10))
    deployments.add(deployment(2), in_progress=1)


def test_what_is_wanted(deployments: DeploymentStore) -> None:
    first, second = active(deployments), deployments.add(deployment(2))
    assert deployments.wanted([]) == [second]
    assert deployments.wanted([first.arn, "arn:gone"]) == [first, second]


def test_filters_and_pages(deployments: DeploymentStore) -> None:
    active(deployments)
    deployments.add(deployment(2))
    page, _ = deployments.page(REGION, Listing(equals={"status": "Active"}))
    assert [item.name for item in page] == ["deployment-1"]
    page, following = deployments.page(REGION, Listing(limit=1))
    assert [item.name for item in page] == ["deployment-2"]
    page, following = deployments.page(REGION, Listing(limit=1, after=following))
    assert [item.name for item in page] == ["deployment-1"]
    assert following is None
