"""One served house for all tests of a file."""

from collections.abc import Iterator

import pytest

from outcrop.wire.gateway import Gateway
from outcrop.wire.sigv4 import Credential
from tests.wire.asgi import serving
from tests.wire.house import CLIENTS, KEY, SECRET, THREADS, House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def endpoint(house: House) -> Iterator[str]:
    credentials = {KEY: Credential(KEY, SECRET)}
    bearers = {"bedrock-api-key-1": KEY}
    gateway = Gateway(house.operations(), credentials.get, bearers.get, house.spool, threads=THREADS)
    with serving(gateway) as address:
        yield address
    gateway.close()


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()
