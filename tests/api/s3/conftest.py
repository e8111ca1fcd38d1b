"""A real server with the embedded S3 in it, and boto3's own client to talk to it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from tests.api.s3.server import S3Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests of this process."""
    running = S3Server(tmp_path_factory.mktemp("s3") / "data").start()
    yield running
    running.close()


@pytest.fixture(scope="session")
def client(server: S3Server) -> Iterator[Any]:
    """boto3 in us-east-1."""
    made = server.client()
    yield made
    made.close()


@pytest.fixture
def bucket(client: Any) -> str:
    """A fresh bucket in us-east-1."""
    name = f"test-{uuid4().hex[:20]}"
    client.create_bucket(Bucket=name)
    return name


Refused = Callable[..., dict[str, Any]]


@pytest.fixture
def refused() -> Refused:
    """Call an operation that must fail: checks status and code, and gives the parsed error for more."""

    def check(status: int, code: str, operation: Callable[..., Any], **params: Any) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            operation(**params)
        response: dict[str, Any] = caught.value.response
        told = (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"])
        assert told == (status, code), response["Error"]
        return dict(response["Error"])

    return check
