"""What botocore's serializer writes, our router and parser read back equal: every operation of every service."""

import pytest

from outcrop.wire.parse import parse
from outcrop.wire.request import Request
from outcrop.wire.route import Match, Router
from outcrop.wire.spec import SIGNED_AS, Spec
from outcrop.wire.validate import validate
from tests.wire.generate import Generator
from tests.wire.oracle import ALIASES, OPERATIONS, ORACLES, sent, written

SPEC = Spec()
ROUTER = Router(SPEC, ("localhost",))


def routed(service: str, request: Request, body: bytes) -> Match:
    """The operation that our router finds from nothing but the signing name and the request."""
    model = SPEC.service(service)
    if model.protocol == "query":
        match = ROUTER.query(service, request, body.decode("latin-1"))
    else:
        signing = next(name for name, services in SIGNED_AS.items() if service in services)
        match = ROUTER.rest(SIGNED_AS[signing], request)
    assert match is not None, (service, request)
    return match


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_botocores_requests_are_read_back_equal(service: str, operation: str) -> None:
    """Every operation, with every member and with fewer, comes back as it was given, and is valid."""
    shape = ORACLES[service].operation_model(operation).input_shape
    for seed, full in ((1, True), (2, False), (3, False)):
        generator = Generator(SPEC.service(service), seed, full=full, milliseconds=False)
        params = generator.structure(shape) if shape is not None else {}
        given = sent(written(service, operation, params))
        path, _, query = given.url.partition("?")
        request, body = Request(given.method, path, query, given.headers), given.body
        match = routed(service, request, body)
        assert (match.service.name, match.operation.name) == (service, ALIASES.get(operation, operation))
        if operation in ALIASES:
            continue
        found = parse(match, request, body)
        if "ContentLength" not in params:
            found.pop("ContentLength", None)  # HTTP's own header, which is also a member of S3's uploads
        assert found == params
        validate(match, found)
