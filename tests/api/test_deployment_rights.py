"""Which resource a right must name for deployments, and for a throughput that is called by its name."""

from collections.abc import Iterator

import pytest

from outcrop.api.actions.need import Target
from outcrop.api.actions.table import TABLE
from outcrop.store.database import Database
from outcrop.store.store import Store
from tests.store.resources import ACCOUNT, LONG_ID, REGION, at, deployment, job, model, throughput


@pytest.fixture
def store() -> Iterator[Store]:
    database = Database("sqlite://")
    database.create()
    store = Store.over(database)
    store.jobs.add(job(), None, "f")
    store.jobs.complete(job().arn, model(), {}, at(5))
    store.deployments.add(deployment())
    store.throughputs.add(throughput())
    yield store
    database.close()


def asked(store: Store, service: str, operation: str, **params: str) -> list[tuple[str, str]]:
    """Actions and resources that an operation asks for."""
    target = Target(params=params, region=REGION, account=ACCOUNT, store=store)
    needs = [need for need in TABLE[service][operation] if need.when is None or params.get(need.when)]
    return [(need.action.partition(":")[2], need.on(target)) for need in needs]


@pytest.mark.parametrize("identifier", ["deployment-1", deployment().arn])
def test_a_deployment_is_named_by_its_arn(store: Store, identifier: str) -> None:
    for verb in ("Get", "Delete"):
        operation = f"{verb}CustomModelDeployment"
        found = asked(store, "bedrock", operation, customModelDeploymentIdentifier=identifier)
        assert found == [(operation, deployment().arn)]
    operation = "UpdateCustomModelDeployment"
    found = asked(store, "bedrock", operation, customModelDeploymentIdentifier=identifier, modelArn=model().arn)
    assert found == [(operation, deployment().arn), (operation, model().arn)]


def test_a_new_one_needs_the_right_on_its_model(store: Store) -> None:
    operation = "CreateCustomModelDeployment"
    assert asked(store, "bedrock", operation, modelArn=model().arn) == [(operation, model().arn)]
    assert asked(store, "bedrock", operation, modelArn=model().arn, tags="some") == [
        (operation, model().arn),
        ("TagResource", f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model-deployment/*"),
    ]


def test_an_invocation_needs_the_right_on_what_it_names(store: Store) -> None:
    for identifier, resource in (
        (deployment().arn, deployment().arn),
        (throughput().arn, throughput().arn),
        # By its name too: a right on foundation models does not reach a throughput.
        ("pt-1", throughput().arn),
        (LONG_ID, f"arn:aws:bedrock:{REGION}::foundation-model/{LONG_ID}"),
    ):
        assert asked(store, "bedrock-runtime", "InvokeModel", modelId=identifier) == [("InvokeModel", resource)]
