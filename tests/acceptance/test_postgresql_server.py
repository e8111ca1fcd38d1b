"""A whole server over PostgreSQL: what the store's tests cannot show, from a job to an answer, killed in between."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from tests.acceptance.server import Server
from tests.serve.fleet_world import until
from tests.store import postgresql

MODEL = "amazon.titan-text-express-v1"


@pytest.fixture
def url() -> Iterator[str]:
    """An empty schema; without a PostgreSQL, or its driver, the test is skipped and says why."""
    pytest.importorskip(
        "psycopg", reason="the driver of PostgreSQL is not installed: pip install 'outcrop[postgresql]'"
    )
    try:
        with postgresql.server() as server, postgresql.schema(server) as schema:
            yield schema
    except postgresql.Absent as reason:
        pytest.skip(str(reason))


@pytest.fixture
def server(url: str, tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data", keeps_port=True, database=url).start()
    yield running
    running.kill()
    running.release()


def ask(server: Server, model: str) -> str:
    body = json.dumps(
        {"inputText": "Customer: where is order 107?\nAgent:", "textGenerationConfig": {"temperature": 0}}
    )
    answer = server.client("bedrock-runtime").invoke_model(modelId=model, body=body)
    return str(json.loads(answer["body"].read())["results"][0]["outputText"])


@pytest.mark.slow
def test_a_job_and_its_model_outlive_a_killed_server(server: Server, url: str, pairs: Path, tmp_path: Path) -> None:
    settings = {"epochCount": "4", "batchSize": "8", "learningRate": "0.00001"}
    job = server.begin_job("violets", MODEL, pairs.read_bytes(), **settings)

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = server.client("bedrock").get_model_customization_job(jobIdentifier=job)
        return found

    server.kill()
    # Whose connections PostgreSQL may still believe in.
    server.start()
    until(lambda: seen()["status"] != "InProgress", 200)
    assert seen()["status"] == "Completed", seen().get("failureMessage")
    assert seen()["trainingMetrics"]["trainingLoss"] > 0
    assert [each["modelName"] for each in server.client("bedrock").list_custom_models()["modelSummaries"]] == [
        "violets"
    ]
    throughput = server.client("bedrock").create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="throughput", modelId="violets"
    )["provisionedModelArn"]

    def status() -> str:
        found = server.client("bedrock").get_provisioned_model_throughput(provisionedModelId=throughput)
        return str(found["status"])

    until(lambda: status() != "Creating", 200)
    assert status() == "InService"
    said = ask(server, throughput)
    assert said
    server.stop()
    server.start()
    assert ask(server, throughput) == said
    assert not server.directory.database.exists(), "nothing of it lies in SQLite"
    other = Server(tmp_path / "other", database=url)
    with pytest.raises(AssertionError, match="another outcrop server already uses this database"):
        other.start()


def test_a_server_outlives_the_connections_of_its_database(server: Server, url: str, tmp_path: Path) -> None:
    s3 = server.client("s3", config=Config(retries={"total_max_attempts": 1}))
    s3.create_bucket(Bucket="bucket")
    postgresql.cut(url)
    s3.put_object(Bucket="bucket", Key="key", Body=b"kept")
    assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == b"kept"
    other = Server(tmp_path / "other", database=url)
    with pytest.raises(AssertionError, match="another outcrop server already uses this database"):
        other.start()
