"""What our serializer writes, botocore's parser reads back equal: every operation, modelled error and event."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.awsrequest import HeadersDict
from botocore.exceptions import EventStreamError
from botocore.parsers import create_parser

from outcrop.errors import ServiceError
from outcrop.wire import faults
from outcrop.wire.events import event_frame, event_stream, exception_frame
from outcrop.wire.route import Match
from outcrop.wire.serialize import Reply, serialize
from outcrop.wire.spec import SERVICES, Spec
from tests.wire.generate import Generator, members_of
from tests.wire.oracle import ALIASES, OPERATIONS, ORACLES

SPEC = Spec()
STREAMS = [
    (service, name)
    for service, name in OPERATIONS
    if (shape := ORACLES[service].operation_model(name).output_shape) is not None
    and any(member.serialization.get("eventstream") for member in shape.members.values())
]


class Wire:
    """A raw stream as urllib3 gives one: `stream()` yields what arrived."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def stream(self) -> Iterator[bytes]:
        yield from self._pieces

    def close(self) -> None:
        self._pieces = []


def match_of(service: str, operation: str) -> Match:
    return Match(SPEC.service(service), SPEC.operation(service, operation), {})


def read_back(service: str, operation: str, status: int, headers: Any, body: Any) -> dict[str, Any]:
    model = ORACLES[service].operation_model(operation)
    parser = create_parser(ORACLES[service].metadata["protocol"])
    context = {"operation_name": operation}
    given = {"status_code": status, "headers": headers, "body": body, "context": context}
    parsed: dict[str, Any] = parser.parse(given, model.output_shape)
    return parsed


# GetBucketLocation's one member is its root element, which boto3 reads in a handler: test_wire_server asks for it.
READ = [each for each in OPERATIONS if each[1] not in (*ALIASES, "GetBucketLocation")]


@pytest.mark.parametrize(("service", "operation"), READ)
def test_answers_are_read_back_equal(service: str, operation: str) -> None:
    """Every output, with every member and with fewer, arrives as the operation gave it."""
    shape = ORACLES[service].operation_model(operation).output_shape
    for seed, full in ((1, True), (2, False)):
        generator = Generator(SPEC.service(service), seed, full=full, milliseconds=True)
        output = generator.structure(shape) if shape is not None else {}
        response = serialize(match_of(service, operation), Reply(output), "id-1")
        payload = shape.serialization.get("payload") if shape is not None else None
        body: Any = response.body
        if (service, operation) in STREAMS:
            body = Wire([])
        elif payload is not None and shape.members[payload].type_name in ("blob", "string"):
            body = io.BytesIO(response.body)  # type: ignore[arg-type]
        parsed = read_back(service, operation, response.status, HeadersDict(response.headers), body)
        assert parsed["ResponseMetadata"]["RequestId"] == "id-1"
        found = members_of(parsed)
        if (service, operation) in STREAMS:
            found.pop(payload)
        elif isinstance(body, io.BytesIO):
            raw = found.pop(payload).read()
            given = output.pop(payload, b"")
            assert raw == (given.encode() if isinstance(given, str) else given)
        for name in [name for name, value in found.items() if value == {} and name not in output]:
            found.pop(name)  # botocore makes an empty mapping of an absent payload, or of no metadata headers
        assert found == output


@pytest.mark.parametrize("service", SERVICES)
def test_modelled_errors_are_read_back_with_the_models_status(service: str) -> None:
    """Each error that an operation declares arrives under its code, with its message and members."""
    for name in ORACLES[service].operation_names:
        operation = ORACLES[service].operation_model(name)
        for shape in operation.error_shapes:
            code = shape.error_code
            members = Generator(SPEC.service(service), 1, full=True, milliseconds=True).structure(shape)
            members = {key: value for key, value in members.items() if key.lower() != "message"}
            error = ServiceError("what <happened> & why", code=code, status=499, **members)
            response = faults.respond(SPEC.service(service), error, "id-2", resource="/a", head=False)
            assert (
                response.status == shape.metadata["error"].get("httpStatusCode", 499)
                if "error" in shape.metadata
                else 499
            )
            parser = create_parser(ORACLES[service].metadata["protocol"])
            given = {"status_code": response.status, "headers": HeadersDict(response.headers), "body": response.body}
            parsed = {**parser.parse(given, operation.output_shape), **parser.parse(given, shape)}
            assert parsed["Error"]["Code"] == code
            assert parsed["Error"]["Message"] == "what <happened> & why"
            assert parsed["ResponseMetadata"]["RequestId"] == "id-2"
            assert {key: parsed[key] for key in members} == members


def test_a_conflict_is_400_on_bedrock_and_a_model_not_ready_429() -> None:
    """The statuses that nobody would guess come from the model, whatever the exception says."""
    for code, status in (("ConflictException", 400), ("ModelNotReadyException", 429), ("ModelErrorException", 424)):
        error = ServiceError("x", code=code, status=500)
        assert faults.respond(SPEC.service("bedrock-runtime"), error, "i", resource="/", head=False).status == status


@pytest.mark.parametrize(("service", "operation"), STREAMS)
def test_events_are_read_back_equal(service: str, operation: str) -> None:
    """Every event of every stream, each in a frame of its own."""
    match = match_of(service, operation)
    stream = event_stream(match)
    generator = Generator(SPEC.service(service), 5, full=True, milliseconds=True)
    events = [
        {name: generator.structure(shape)}
        for name, shape in stream.members.items()
        if not shape.metadata.get("exception")
    ]
    pieces = [event_frame(match, event) for event in events]
    assert events
    headers = {"content-type": "application/vnd.amazon.eventstream"}
    parsed = read_back(service, operation, 200, headers, Wire(pieces))
    payload = ORACLES[service].operation_model(operation).output_shape.serialization.get("payload") or next(
        name
        for name, member in ORACLES[service].operation_model(operation).output_shape.members.items()
        if member.serialization.get("eventstream")
    )
    assert list(parsed[payload]) == events


@pytest.mark.parametrize(("service", "operation"), STREAMS)
def test_an_error_in_mid_stream_is_raised_by_boto(service: str, operation: str) -> None:
    """A modelled error by its event's name, any other as an error message: boto raises both under their code."""
    match = match_of(service, operation)
    for code in ("ThrottlingException", "ModelStreamErrorException", "SomethingElse"):
        frame = exception_frame(match, ServiceError("too much", code=code))
        headers = {"content-type": "application/vnd.amazon.eventstream"}
        shape = ORACLES[service].operation_model(operation).output_shape
        payload = next(name for name, member in shape.members.items() if member.serialization.get("eventstream"))
        parsed = read_back(service, operation, 200, headers, Wire([frame]))
        with pytest.raises(EventStreamError, match="too much") as caught:
            list(parsed[payload])
        assert caught.value.response["Error"]["Code"].lower() == code.lower()


def test_chunks_are_padded_to_hide_their_length() -> None:
    """Equal chunks make frames of different lengths, as AWS's do."""
    match = match_of("bedrock-runtime", "InvokeModelWithResponseStream")
    sizes = {len(event_frame(match, {"chunk": {"bytes": b"{}"}})) for _ in range(50)}
    assert len(sizes) > 10
