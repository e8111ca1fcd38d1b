"""What botocore's serializer writes, our router and parser read back equal: every operation of every service."""

from typing import Any

import pytest
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.serialize import create_serializer
from botocore.session import Session

from outcrop.wire.parse import parse
from outcrop.wire.request import Request
from outcrop.wire.route import Match, Router
from outcrop.wire.spec import SERVICES, SIGNED_AS, Spec
from outcrop.wire.validate import validate
from tests.wire.generate import Generator

SPEC = Spec()
ROUTER = Router(SPEC, ("localhost",))
SESSION = Session()
ORACLES = {name: SESSION.get_service_model(name) for name in SERVICES}
OPERATIONS = [(service, name) for service in SERVICES for name in ORACLES[service].operation_names]

ALIASES = {
    # S3 kept the old spelling of these at the same address; the newer one answers.
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    # Told apart by host name in AWS (S3 Express).
    "ListDirectoryBuckets": "ListBuckets",
}


def written(service: str, operation: str, params: dict[str, Any]) -> tuple[Request, bytes]:
    """The request that botocore writes, as its connection would send it."""
    model = ORACLES[service].operation_model(operation)
    serializer = create_serializer(ORACLES[service].metadata["protocol"], include_validation=False)
    made = serializer.serialize_to_request(params, model)
    prepare_request_dict(made, endpoint_url="http://127.0.0.1:4580")
    prepared = create_request_object(made).prepare()
    _, _, place = prepared.url.removeprefix("http://").partition("/")
    path, _, query = ("/" + place).partition("?")
    headers = {"host": "127.0.0.1:4580"}
    for name, value in prepared.headers.items():
        headers[name.lower()] = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    body = prepared.body or b""
    if hasattr(body, "read"):
        body = body.read()
    return Request(prepared.method, path, query, headers), body if isinstance(body, bytes) else body.encode()


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
        request, body = written(service, operation, params)
        match = routed(service, request, body)
        assert (match.service.name, match.operation.name) == (service, ALIASES.get(operation, operation))
        if operation in ALIASES:
            continue
        found = parse(match, request, body)
        if "ContentLength" not in params:
            found.pop("ContentLength", None)  # HTTP's own header, which is also a member of S3's uploads
        assert found == params
        validate(match, found)
