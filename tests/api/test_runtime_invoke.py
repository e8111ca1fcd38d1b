"""InvokeModel and its stream through boto3, a real server and engines that echo."""

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import EventStreamError

from tests.api.bedrock_server import ACCOUNT, REGION, refused
from tests.api.runtime_server import EXPRESS, Runtime, runtime_over
from tests.serve.fleet_world import now, until
from tests.store.resources import BASE_ARN, LONG_ID

CHUNK_KEYS = {"outputText", "index", "totalOutputTextTokenCount", "completionReason", "inputTextTokenCount"}


def body(text: str = "hello there", **settings: Any) -> str:
    return json.dumps({"inputText": text, **({"textGenerationConfig": settings} if settings else {})})


def chunks(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with runtime_over(tmp_path_factory.mktemp("runtime")) as running:
        yield running


@pytest.fixture(scope="module")
def provisioned(runtime: Runtime) -> tuple[str, str]:
    """A throughput in service for a custom model: its ARN, and how its answers begin."""
    custom = runtime.world.model(50)
    return runtime.world.serve(50, custom.arn), f"{custom.id}: "


@pytest.fixture
def own(tmp_path: Any) -> Iterator[Runtime]:
    """A server of one's own, to break."""
    with runtime_over(tmp_path) as running:
        yield running


def test_an_answer_is_titan_s_with_counts_in_its_headers(runtime: Runtime) -> None:
    answer = runtime.client().invoke_model(modelId=EXPRESS, body=body("one two three", maxTokenCount=2))
    assert json.loads(answer["body"].read()) == {
        "inputTextTokenCount": 3,
        "results": [{"tokenCount": 2, "outputText": "one two", "completionReason": "LENGTH"}],
    }
    assert answer["contentType"] == "application/json"
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-input-token-count"] == "3"
    assert headers["x-amzn-bedrock-output-token-count"] == "2"
    assert 0 <= int(headers["x-amzn-bedrock-invocation-latency"]) < 60_000
    assert headers["content-type"] == "application/json"


def test_a_stream_is_titan_s_and_its_last_chunk_has_the_metrics(runtime: Runtime) -> None:
    answer = runtime.client().invoke_model_with_response_stream(modelId=EXPRESS, body=body("one two three"))
    assert answer["contentType"] == "application/json"
    *first, last = chunks(answer)
    assert [chunk["outputText"] for chunk in first] == ["one ", "two ", "three "]
    assert all(chunk.keys() == CHUNK_KEYS and chunk["completionReason"] is None for chunk in first)
    metrics = last.pop("amazon-bedrock-invocationMetrics")
    assert last == {
        "outputText": "",
        "index": 0,
        "totalOutputTextTokenCount": 3,
        "completionReason": "FINISH",
        "inputTextTokenCount": 3,
    }
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (3, 3)
    assert 0 <= metrics["firstByteLatency"] <= metrics["invocationLatency"] < 60_000
    until(lambda: runtime.leases == 0)


@pytest.mark.parametrize("named", ["id", "arn"])
def test_a_base_is_invoked_by_its_short_id_or_arn(runtime: Runtime, named: str) -> None:
    model_id = EXPRESS if named == "id" else f"arn:aws:bedrock:{REGION}::foundation-model/{EXPRESS}"
    answer = runtime.client().invoke_model(modelId=model_id, body=body())
    assert json.loads(answer["body"].read())["results"][0]["outputText"] == "hello there"


@pytest.mark.parametrize("by_name", [False, True])
def test_a_throughput_is_invoked_by_arn_or_name(runtime: Runtime, provisioned: tuple[str, str], by_name: bool) -> None:
    arn, start = provisioned
    model_id = runtime.world.throughput(arn).name if by_name else arn
    answer = runtime.client().invoke_model(modelId=model_id, body=body())
    assert json.loads(answer["body"].read())["results"][0]["outputText"] == f"{start}hello there"


ON_DEMAND = (
    "Invocation of model ID {} with on-demand throughput isn’t supported. Retry your request with the ID or ARN of an "
    "inference profile that contains this model."
)
UNKNOWN = ("ValidationException", "The provided model identifier is invalid.", 400)


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_invoked_is_refused_in_aws_s_words(runtime: Runtime, stream: bool) -> None:
    client, world = runtime.client(), runtime.world
    invoke = client.invoke_model_with_response_stream if stream else client.invoke_model
    custom = world.model(60 + stream)
    gone = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/pt0000000000"
    for model_id in (LONG_ID, BASE_ARN, custom.arn, custom.name):
        assert refused(invoke, modelId=model_id, body=body()) == (
            "ValidationException",
            ON_DEMAND.format(model_id),
            400,
        )
    for model_id in ("amazon.titan-text-enormous-v1", custom.arn[:-1] + "x"):
        assert refused(invoke, modelId=model_id, body=body()) == UNKNOWN
    assert refused(invoke, modelId=gone, body=body()) == (
        "ResourceNotFoundException",
        f"The provisioned model {gone} does not exist in {REGION}.",
        404,
    )


def test_regions_do_not_see_each_other(runtime: Runtime, provisioned: tuple[str, str]) -> None:
    client = runtime.client("us-west-2")
    code, _, status = refused(client.invoke_model, modelId=provisioned[0], body=body())
    assert (code, status) == ("ResourceNotFoundException", 404)
    east = f"arn:aws:bedrock:us-east-1::foundation-model/{EXPRESS}"
    assert refused(client.invoke_model, modelId=east, body=body()) == UNKNOWN
    assert client.invoke_model(modelId=EXPRESS, body=body())["body"].read()


@pytest.mark.parametrize("stream", [False, True])
def test_states_of_a_throughput(own: Runtime, stream: bool) -> None:
    client, world = own.client(), own.world
    invoke = client.invoke_model_with_response_stream if stream else client.invoke_model
    (world.base / "slow").write_text("1")
    custom, broken = world.model(1), world.model(2)
    (world.root / "models" / broken.id / "broken").touch()
    arn = world.provision(1, custom.arn)
    assert refused(invoke, modelId=arn, body=body()) == (
        "ModelNotReadyException",
        "The provisioned model pt-1 is still being created. Wait until its status is InService.",
        429,
    )
    assert world.settle(arn).status == "InService"
    answer = invoke(modelId=arn, body=body())
    assert chunks(answer) if stream else answer["body"].read()
    failed = world.provision(2, broken.arn)
    world.settle(failed)
    code, message, status = refused(invoke, modelId=failed, body=body())
    assert (code, status) == ("ModelErrorException", 424)
    assert message.endswith("The provisioned model pt-2 failed: the adapter is broken")
    world.store.throughputs.delete(arn, now())
    code, _, status = refused(invoke, modelId=arn, body=body())
    assert (code, status) == ("ResourceNotFoundException", 404)


def test_the_sdk_s_own_retries_outlast_a_throughput_s_creation(own: Runtime) -> None:
    (own.world.base / "slow").write_text("0.5")
    arn = own.world.provision(1, own.world.model().arn)
    answer = own.client(attempts=9).invoke_model(modelId=arn, body=body())
    assert json.loads(answer["body"].read())["results"][0]["outputText"].endswith("hello there")


@pytest.fixture
def still(tmp_path: Any) -> Iterator[Runtime]:
    """A server whose units never fill again."""
    with runtime_over(tmp_path, clock=lambda: 0.0) as running:
        yield running


def test_over_the_units_is_throttled_and_told_so(still: Runtime) -> None:
    arn = still.world.serve(1, BASE_ARN)
    row = still.world.catalog.find(LONG_ID)
    assert row is not None
    with still.world.fleet.lease(arn, REGION, row.tokens_per_minute_per_unit):
        assert refused(still.client().invoke_model, modelId=arn, body=body()) == (
            "ThrottlingException",
            "Too many tokens, please wait before trying again.",
            429,
        )
    assert still.client().invoke_model(modelId=arn, body=body())["body"].read()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ('{"inputText": "hi", "x": 1}', "#: extraneous key [x] is not permitted"),
        ('{"prompt": "hi"}', "2 schema violations found"),
        (body(maxTokenCount=8193), "#/textGenerationConfig/maxTokenCount: 8193 is not less or equal to 8192"),
    ],
)
def test_bodies_are_checked(runtime: Runtime, stream: bool, sent: str, told: str) -> None:
    client = runtime.client()
    invoke = client.invoke_model_with_response_stream if stream else client.invoke_model
    assert refused(invoke, modelId=EXPRESS, body=sent) == (
        "ValidationException",
        f"Malformed input request: {told}, please reformat your input and try again.",
        400,
    )


def test_a_body_that_is_no_json_or_not_there(runtime: Runtime) -> None:
    told = "Malformed input request, please reformat your input and try again."
    for sent in ("{", ""):
        assert refused(runtime.client().invoke_model, modelId=EXPRESS, body=sent)[1] == told


def test_a_strict_server_takes_only_aws_s_stop_sequences(tmp_path: Any, runtime: Runtime) -> None:
    sent = body("a b END c", stopSequences=["END"])
    answer = json.loads(runtime.client().invoke_model(modelId=EXPRESS, body=sent)["body"].read())
    assert answer["results"] == [{"tokenCount": 2, "outputText": "a b", "completionReason": "STOP_CRITERIA_MET"}]
    with runtime_over(tmp_path, strict=True) as strict:
        message = refused(strict.client().invoke_model, modelId=EXPRESS, body=sent)[1]
    assert r"string [END] does not match pattern ^(\|+|User:)$" in message


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"contentType": "text/plain"}, "The content type text/plain is not supported. Send application/json."),
        ({"accept": "image/png"}, "The accept type image/png is not supported. Accept application/json."),
        (
            {"guardrailIdentifier": "abc", "guardrailVersion": "1"},
            "The guardrail identifier or version provided in the request does not exist.",
        ),
        (
            {"performanceConfigLatency": "optimized"},
            "Value 'optimized' at performanceConfigLatency is not supported for this model.",
        ),
        ({"serviceTier": "flex"}, "Value 'flex' at serviceTier is not supported for this model."),
    ],
)
def test_options_that_cannot_be_had_are_refused(runtime: Runtime, options: dict[str, str], told: str) -> None:
    code, message, _ = refused(runtime.client().invoke_model, modelId=EXPRESS, body=body(), **options)
    assert (code, message) == ("ValidationException", told)


@pytest.mark.parametrize(
    "options",
    [
        {"contentType": "application/json; charset=utf-8", "accept": "*/*"},
        {"contentType": "application/octet-stream"},
        {"accept": "application/json, text/plain, */*"},
        {"performanceConfigLatency": "standard", "serviceTier": "default", "trace": "DISABLED"},
    ],
)
def test_options_that_mean_the_usual_are_taken(runtime: Runtime, options: dict[str, str]) -> None:
    assert runtime.client().invoke_model(modelId=EXPRESS, body=body(), **options)["body"].read()
    assert chunks(runtime.client().invoke_model_with_response_stream(modelId=EXPRESS, body=body(), **options))


def test_a_prompt_longer_than_the_context_is_refused_with_the_figures(runtime: Runtime) -> None:
    client = runtime.client()
    told = "Too many input tokens. Max input tokens: 4, request input token count: "
    for invoke in (client.invoke_model, client.invoke_model_with_response_stream):
        for prompt, count in (("long", "9"), ("far too long", "about 9")):
            refusal = ("ValidationException", told + count, 400)
            assert refused(invoke, modelId=EXPRESS, body=body(prompt)) == refusal
    assert runtime.leases == 0


def test_an_engine_that_breaks_before_and_within_an_answer(runtime: Runtime) -> None:
    client = runtime.client()
    assert refused(client.invoke_model, modelId=EXPRESS, body=body("fail")) == (
        "ModelErrorException",
        "the echo broke",
        424,
    )
    answer = client.invoke_model_with_response_stream(modelId=EXPRESS, body=body("fail now"))
    with pytest.raises(EventStreamError) as caught:
        chunks(answer)
    answer["body"].close()
    assert caught.value.response["Error"]["Code"] == "modelStreamErrorException"
    assert "the echo broke" in str(caught.value)
    until(lambda: runtime.leases == 0)


def test_an_engine_that_is_killed_within_a_stream_is_told_and_replaced(own: Runtime) -> None:
    arn = own.world.serve(1, own.world.model().arn)
    [pid] = own.world.pids()
    answer = own.client().invoke_model_with_response_stream(modelId=arn, body=body("slow one"))
    events = iter(answer["body"])
    next(events)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EventStreamError, match="broke off"):
        list(events)
    answer["body"].close()
    until(lambda: own.world.pids() not in ([], [pid]))
    assert own.client().invoke_model(modelId=arn, body=body())["body"].read()
    assert own.leases == 0


def test_a_caller_that_leaves_ends_lease_and_work(runtime: Runtime) -> None:
    answer = runtime.client().invoke_model_with_response_stream(modelId=EXPRESS, body=body("slow one"))
    next(iter(answer["body"]))
    assert runtime.leases == 1
    answer["body"].close()
    until(lambda: runtime.leases == 0, 3)
    until(lambda: runtime.world.health(runtime.world.base)["load"] == 0, 3)


def test_a_hundred_callers_that_leave_at_once_leave_nothing(runtime: Runtime) -> None:
    client = runtime.client()

    def leave(number: int) -> None:
        answer = client.invoke_model_with_response_stream(modelId=EXPRESS, body=body(f"slow {number}"))
        if number % 2:
            next(iter(answer["body"]))
        answer["body"].close()

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(leave, range(100)))
    until(lambda: runtime.leases == 0, 5)
    until(lambda: runtime.world.health(runtime.world.base)["load"] == 0, 5)


def test_eight_callers_at_once_each_get_their_own(runtime: Runtime, provisioned: tuple[str, str]) -> None:
    arn, start = provisioned
    client = runtime.client()

    def ask(number: int) -> str:
        if number % 2:
            answer = client.invoke_model(modelId=arn, body=body(f"number {number}"))
            return str(json.loads(answer["body"].read())["results"][0]["outputText"])
        streamed = client.invoke_model_with_response_stream(modelId=arn, body=body(f"number {number}"))
        return "".join(chunk["outputText"] for chunk in chunks(streamed)).strip()

    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(ask, range(80)))
    assert answers == [f"{start}number {number}" for number in range(80)]


def test_an_update_drops_no_request_through_the_front_door(own: Runtime) -> None:
    world, client = own.world, own.client()
    red, blue = world.model(1), world.model(2)
    arn = world.serve(1, red.arn)
    deadline = time.monotonic() + 2

    def ask(_: int) -> set[str]:
        seen = set()
        while time.monotonic() < deadline:
            answer = client.invoke_model(modelId=arn, body=body("hello"))
            seen.add(json.loads(answer["body"].read())["results"][0]["outputText"])
        return seen

    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask, number) for number in range(4)]
        world.store.throughputs.update_asked(arn, name=None, model_arn=blue.arn, now=now())
        world.fleet.wake()
        assert world.settle(arn).status == "InService"
        assert (
            json.loads(client.invoke_model(modelId=arn, body=body("x"))["body"].read())["results"][0]["outputText"]
            == f"{blue.id}: x"
        )
    assert set().union(*(each.result() for each in asked)) <= {f"{red.id}: hello", f"{blue.id}: hello"}


def test_unsigned_calls_are_refused(runtime: Runtime) -> None:
    host = runtime.endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    connection.request("POST", f"/model/{EXPRESS}/invoke", body=body())
    answer = connection.getresponse()
    assert answer.status == 403
    answer.read()
    connection.close()
