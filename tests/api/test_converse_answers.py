"""Converse, ConverseStream and CountTokens through boto3, a real server and engines that echo."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import EventStreamError

from tests.api.bedrock_server import refused
from tests.api.converse_world import COHERE, HAIKU, LLAMA_2, MODELS, NOVA, asked, conversing, said
from tests.api.runtime_server import EXPRESS, Runtime
from tests.serve.fleet_world import until
from tests.store.resources import BASE_ARN


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with conversing(tmp_path_factory.mktemp("converse")) as running:
        yield running


@pytest.mark.parametrize("model", MODELS)
def test_every_family_answers_whole_and_streamed(runtime: Runtime, model: str) -> None:
    client = runtime.client()
    question = asked("one two three", modelId=model, inferenceConfig={"maxTokens": 2})
    answer = client.converse(**question)
    assert answer["output"] == {"message": {"role": "assistant", "content": [{"text": "one two"}]}}
    assert answer["stopReason"] == "max_tokens"
    assert answer["usage"] == {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    assert 0 <= answer["metrics"]["latencyMs"] < 60_000
    assert "additionalModelResponseFields" not in answer

    events = list(client.converse_stream(**question)["stream"])
    metadata = events.pop()["metadata"]
    assert events == [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "one "}}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "two "}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "max_tokens"}},
    ]
    assert metadata["usage"] == answer["usage"]
    assert 0 <= metadata["metrics"]["latencyMs"] < 60_000
    until(lambda: runtime.leases == 0)


def test_every_event_is_padded(runtime: Runtime) -> None:
    raw = runtime.client().converse_stream(**asked("one two"))["stream"]._raw_stream.read()
    for name in (b"messageStart", b"contentBlockDelta", b"contentBlockStop", b"messageStop", b"metadata"):
        assert name in raw
    assert raw.count(b'"p":"a') == raw.count(b":event-type")


def test_turns_and_system_go_to_the_engine_in_their_order(runtime: Runtime) -> None:
    answer = runtime.client().converse(**asked("a", "b", "c", system=[{"text": "s"}, {"text": "t"}]))
    assert answer["output"]["message"]["content"] == [{"text": "st a b c"}]
    assert answer["stopReason"] == "end_turn"


def test_a_begun_answer_is_gone_on_with(runtime: Runtime) -> None:
    answer = runtime.client().converse(**asked("a", "b"))
    assert answer["output"]["message"]["content"] == [{"text": "a b"}]


@pytest.mark.parametrize("model", MODELS)
def test_a_stop_sequence_stops_every_family(runtime: Runtime, model: str) -> None:
    question = asked("one two three", modelId=model, inferenceConfig={"stopSequences": ["two"]})
    answer = runtime.client().converse(**question)
    assert answer["stopReason"] == "stop_sequence"
    assert answer["output"]["message"]["content"] == [{"text": "one"}]


def test_an_empty_answer_has_no_content_whole_or_streamed(runtime: Runtime) -> None:
    client = runtime.client()
    question = asked("STOP one", modelId=NOVA, inferenceConfig={"stopSequences": ["STOP"]})
    assert client.converse(**question)["output"]["message"]["content"] == []
    events = list(client.converse_stream(**question)["stream"])
    assert not [event for event in events if "contentBlockDelta" in event]


def test_response_fields_are_the_model_s_own(runtime: Runtime) -> None:
    paths = ["/stop_sequence", "/usage/input_tokens", "/usage/output_tokens", "/delta/stop_sequence", "/nothing/there"]
    question = asked(
        "one two three", inferenceConfig={"stopSequences": ["two"]}, additionalModelResponseFieldPaths=paths
    )
    assert runtime.client().converse(**question)["additionalModelResponseFields"] == {
        "stop_sequence": "two",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
    # A stream's paths point into the model's last chunks, where Anthropic has the same under `delta`.
    events = list(runtime.client().converse_stream(**question)["stream"])
    assert events[-2]["messageStop"]["additionalModelResponseFields"] == {
        "delta": {"stop_sequence": "two"},
        "usage": {"output_tokens": 1},
    }


def test_request_fields_are_the_model_s_own(runtime: Runtime) -> None:
    client = runtime.client()
    assert client.converse(**asked("a", additionalModelRequestFields={"top_k": 5}))["output"]
    nova = {"inferenceConfig": {"topK": 5}}
    assert client.converse(**asked("a", modelId=NOVA, additionalModelRequestFields=nova))["output"]
    assert client.converse(**asked("a", requestMetadata={"team": "red"}, serviceTier={"type": "default"}))["output"]


@pytest.mark.parametrize(("model", "system"), [(HAIKU, "in French"), (NOVA, [{"text": "in French"}])])
def test_a_system_text_among_the_request_fields_reaches_the_model(runtime: Runtime, model: str, system: Any) -> None:
    client, fields = runtime.client(), {"system": system}
    answer = client.converse(**asked("a", modelId=model, additionalModelRequestFields=fields))
    # The echo says all that it was told.
    assert answer["output"]["message"]["content"] == [{"text": "in French a"}]
    both = asked("a", modelId=model, additionalModelRequestFields=fields, system=[{"text": "in German"}])
    assert refused(client.converse, **both)[1] == "The additional field system conflicts with an existing field."


def test_throughputs_converse_and_count(runtime: Runtime) -> None:
    custom = runtime.world.model(70)
    arn = runtime.world.serve(70, custom.arn)
    client = runtime.client()
    answer = client.converse(**asked("hello", modelId=arn))
    assert answer["output"]["message"]["content"] == [{"text": f"{custom.id}: hello"}]
    counted = client.count_tokens(modelId=arn, input={"converse": {"messages": [said("user", "one two")]}})
    assert counted["inputTokens"] == 2


def test_a_conversation_is_charged_to_its_throughput(runtime: Runtime) -> None:
    arn = runtime.world.serve(71, BASE_ARN)
    paid: list[int] = []
    bucket = runtime.world.fleet._buckets[arn]
    settle = bucket.settle

    def note(reserved: int, used: int) -> None:
        paid.append(used)
        settle(reserved, used)

    bucket.settle = note  # type: ignore[method-assign]
    client = runtime.client()
    client.count_tokens(modelId=arn, input={"converse": {"messages": [said("user", "one two")]}})
    client.converse(**asked("one two", modelId=arn))
    list(client.converse_stream(**asked("one two three", modelId=arn))["stream"])
    until(lambda: len(paid) == 2)
    assert paid == [4, 6], "prompt and answer are charged, a count is not"
    read = runtime.world.fleet._meter.registry.get_sample_value
    assert read("outcrop_invocations_total", {"model_id": arn, "outcome": "ok"}) == 2, "a count is no invocation"
    assert read("outcrop_invocation_seconds_count", {"model_id": arn}) == 2


@pytest.mark.parametrize(
    ("model", "body", "tokens"),
    [
        (EXPRESS, {"inputText": "one two three"}, 3),
        (COHERE, {"prompt": "one two"}, 2),
        (LLAMA_2, {"prompt": "one"}, 1),
        (
            HAIKU,
            {
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": 1,
                "system": "a b",
                "messages": [{"role": "user", "content": "c"}],
            },
            3,
        ),
        (NOVA, {"messages": [said("user", "a b c d")]}, 4),
    ],
)
def test_bodies_are_counted(runtime: Runtime, model: str, body: dict[str, Any], tokens: int) -> None:
    sent = {"invokeModel": {"body": json.dumps(body)}}
    assert runtime.client().count_tokens(modelId=model, input=sent)["inputTokens"] == tokens


def test_what_cannot_be_asked_cannot_be_counted(runtime: Runtime) -> None:
    client = runtime.client()
    body = json.dumps({"prompt": "hi"})
    assert refused(client.count_tokens, modelId=EXPRESS, input={"invokeModel": {"body": body}}) == (
        "ValidationException",
        "Malformed input request: 2 schema violations found, please reformat your input and try again.",
        400,
    )
    system = {"messages": [said("user", "a")], "system": [{"text": "b"}]}
    message = refused(client.count_tokens, modelId=EXPRESS, input={"converse": system})[1]
    assert message.startswith("This model doesn't support system messages.")


def test_an_engine_that_breaks_under_a_stream(runtime: Runtime) -> None:
    stream = runtime.client().converse_stream(**asked("fail now"))["stream"]
    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        list(stream)
    # Else its connection would be collected some time later, with a warning, in whatever test runs then.
    stream.close()
    until(lambda: runtime.leases == 0)


def test_a_caller_who_leaves_ends_the_work(runtime: Runtime) -> None:
    stream = runtime.client().converse_stream(**asked("slow one"))["stream"]
    events = iter(stream)
    next(events)
    assert runtime.leases == 1
    stream.close()
    until(lambda: runtime.leases == 0)


def test_generations_are_really_made_one_after_the_other(runtime: Runtime) -> None:
    client = runtime.client()
    sent = {"prompt": "one two", "num_generations": 3, "stream": True}
    before = runtime.world.health(runtime.world.base)["asked"]
    answer = client.invoke_model(modelId=COHERE, body=json.dumps(sent))
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert [each["text"] for each in json.loads(answer["body"].read())["generations"]] == ["one two"] * 3
    assert headers["x-amzn-bedrock-input-token-count"] == "2"
    assert headers["x-amzn-bedrock-output-token-count"] == "6"
    stream = client.invoke_model_with_response_stream(modelId=COHERE, body=json.dumps(sent))["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream]
    assert [(chunk["index"], chunk.get("text")) for chunk in chunks] == [
        (number, text) for number in range(3) for text in ("one ", "two ", None)
    ]
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] == 2
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 6
    assert runtime.world.health(runtime.world.base)["asked"] == before + 6
