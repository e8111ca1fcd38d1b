"""Pages of the list operations: tokens, sizes, order, and jobs' filters, through boto3's own paginators."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.bedrock_server import EXPRESS, Bedrock, bedrock_over, refused

JOBS = 7


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    client = server.client()
    for number in range(1, JOBS + 1):
        server.create_job(client, number)
        # Jobs 3, 4 and 5 are born in one millisecond.
        server.clock.tick(0 if number in (3, 4) else 1)
    return client


def names(answer: dict[str, Any]) -> list[str]:
    return [item["jobName"] for item in answer["modelCustomizationJobSummaries"]]


@pytest.mark.parametrize("order", ["Ascending", "Descending", None])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_paginator_sees_every_job_once(client: Any, order: str | None, size: int) -> None:
    asked = {"sortOrder": order} if order else {}
    pages = list(client.get_paginator("list_model_customization_jobs").paginate(maxResults=size, **asked))
    assert [len(names(page)) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert len(pages) == -(-JOBS // size)
    seen = [name for page in pages for name in names(page)]
    assert sorted(seen) == [f"job-{number}" for number in range(1, JOBS + 1)]
    assert seen == names(client.list_model_customization_jobs(**asked))
    ends = ("job-1", "job-7") if order == "Ascending" else ("job-7", "job-1")
    assert (seen[0], seen[-1]) == ends


def test_jobs_that_come_and_go_move_no_page(server: Bedrock, client: Any) -> None:
    first = client.list_model_customization_jobs(maxResults=3)
    server.create_job(client, 8)
    second = client.list_model_customization_jobs(maxResults=4, nextToken=first["nextToken"])
    assert len({*names(first), *names(second)}) == JOBS
    assert "job-8" not in names(second)
    assert "nextToken" not in second


def test_a_token_is_opaque_and_without_blanks(client: Any) -> None:
    token = client.list_model_customization_jobs(maxResults=1)["nextToken"]
    assert token.isascii()
    assert not any(character.isspace() for character in token)
    assert len(token) <= 2048
    assert "arn:" not in token


@pytest.mark.parametrize(
    "token",
    ["x", "xyz", "====", "a" * 2048, "bnVsbA", "WzEsMiwzXQ", "eyJhIjoxfQ", "日本", "WyJhIiwxZTMwMCwiYiJd", "/+/+"],
)
def test_a_token_that_no_list_gave(client: Any, token: str) -> None:
    code, message, status = refused(lambda: client.list_model_customization_jobs(nextToken=token))
    assert (code, status) == ("ValidationException", 400)
    assert message.startswith("The provided nextToken is invalid")


def test_a_token_belongs_to_its_list_filters_and_region(server: Bedrock, client: Any) -> None:
    token = client.list_model_customization_jobs(maxResults=1)["nextToken"]
    west = server.client(region="us-west-2")
    for attempt in (
        lambda: client.list_model_customization_jobs(nextToken=token, statusEquals="InProgress"),
        lambda: client.list_model_customization_jobs(nextToken=token, sortOrder="Ascending"),
        lambda: client.list_custom_models(nextToken=token),
        lambda: client.list_provisioned_model_throughputs(nextToken=token),
        lambda: west.list_model_customization_jobs(nextToken=token),
    ):
        code, message, _ = refused(attempt)
        assert code == "ValidationException"
        assert "belongs to another list" in message


@pytest.mark.parametrize("size", [0, 1001, -1])
def test_page_sizes(server: Bedrock, client: Any, size: int) -> None:
    answer = server.raw("GET", f"/model-customization-jobs?maxResults={size}")
    assert answer.status_code == 400
    assert f"'{size}' at 'maxResults'" in answer.json()["message"]


def test_filters_of_jobs(server: Bedrock, client: Any) -> None:
    found = {item["jobName"]: item for item in client.list_model_customization_jobs()["modelCustomizationJobSummaries"]}
    model = server.complete(found["job-2"]["jobArn"])
    client.stop_model_customization_job(jobIdentifier="job-3")

    def listed(**filters: Any) -> list[str]:
        return names(client.list_model_customization_jobs(**filters))

    assert listed(statusEquals="Completed") == ["job-2"]
    assert listed(statusEquals="Stopping") == ["job-3"]
    assert listed(nameContains="b-6") == ["job-6"]
    assert listed(nameContains="JOB") == []
    assert listed(creationTimeAfter=found["job-5"]["creationTime"]) == ["job-7", "job-6"]
    assert listed(creationTimeBefore=found["job-3"]["creationTime"]) == ["job-2", "job-1"]
    [done] = client.list_model_customization_jobs(statusEquals="Completed")["modelCustomizationJobSummaries"]
    assert done["customModelArn"] == model.arn
    assert done["customModelName"] == "model-2"
    assert done["customizationType"] == "FINE_TUNING"
    assert done["endTime"] <= done["lastModifiedTime"]
    assert {part["status"] for part in done["statusDetails"].values()} == {"Completed"}
    code, message, _ = refused(lambda: listed(statusEquals="Done"))
    assert code == "ValidationException"
    assert "'Done' at 'statusEquals'" in message


def test_the_other_paginators(server: Bedrock, client: Any) -> None:
    for item in client.list_model_customization_jobs()["modelCustomizationJobSummaries"]:
        server.complete(item["jobArn"])
    pages = list(client.get_paginator("list_custom_models").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["modelSummaries"]) for page in pages] == [3, 3, 1]
    for number in range(5):
        client.create_provisioned_model_throughput(modelUnits=1, provisionedModelName=f"p{number}", modelId=EXPRESS)
    paginator = client.get_paginator("list_provisioned_model_throughputs")
    pages = list(paginator.paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["provisionedModelSummaries"]) for page in pages] == [2, 2, 1]


def test_regions_are_apart(server: Bedrock, client: Any) -> None:
    west = server.client(region="us-west-2")
    assert names(west.list_model_customization_jobs()) == []
    server.create_job(west, 1)
    assert names(west.list_model_customization_jobs()) == ["job-1"]
    assert len(names(client.list_model_customization_jobs())) == JOBS
