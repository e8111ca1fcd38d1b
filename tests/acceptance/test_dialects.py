"""Inference in every dialect, with unchanged boto3, on weights that really run: whole, streamed, conversed, counted.

Everything is asked greedily, so that the ways to ask can be compared with each other, token for token.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.acceptance.server import Server

TITAN = "amazon.titan-text-express-v1"
COHERE = "cohere.command-text-v14"
LLAMA = "meta.llama2-13b-chat-v1"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
NOVA = "amazon.nova-micro-v1:0"
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "temperature": 0}

QUESTION = "Where is order 4711?"
DIALOGUE = f"User: {QUESTION}\nBot:"
"""What the bundled base's own chat template makes of the question."""

BODIES: dict[str, dict[str, Any]] = {
    TITAN: {"inputText": DIALOGUE, "textGenerationConfig": {"temperature": 0, "maxTokenCount": 24}},
    COHERE: {"prompt": DIALOGUE, "temperature": 0, "max_tokens": 24, "stream": True},
    LLAMA: {"prompt": DIALOGUE, "temperature": 0, "max_gen_len": 24},
    HAIKU: {**CLAUDE, "max_tokens": 24, "messages": [{"role": "user", "content": QUESTION}]},
    NOVA: {
        "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
        "inferenceConfig": {"temperature": 0, "max_new_tokens": 24},
    },
}


@pytest.fixture
def runtime(client_environment: dict[str, str]) -> Any:
    return boto3.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))


def conversation(model: str, **members: Any) -> dict[str, Any]:
    return {
        "modelId": model,
        "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
        "inferenceConfig": {"temperature": 0, "maxTokens": 24},
        **members,
    }


def told(answer: dict[str, Any]) -> tuple[str, str, int, int | None]:
    """Text, reason, output tokens and, where the body has them, input tokens of any family's whole answer."""
    match answer:
        case {"results": [result], "inputTextTokenCount": read}:
            return result["outputText"], result["completionReason"], result["tokenCount"], read
        case {"generations": [generation]}:
            return generation["text"], generation["finish_reason"], 0, None
        case {"generation": text}:
            return text, answer["stop_reason"], answer["generation_token_count"], answer["prompt_token_count"]
        case {"content": [block], "usage": usage}:
            return block["text"], answer["stop_reason"], usage["output_tokens"], usage["input_tokens"]
        case {"output": {"message": {"content": [block]}}, "usage": usage}:
            return block["text"], answer["stopReason"], usage["outputTokens"], usage["inputTokens"]
    raise AssertionError(answer)


def pieces(chunks: list[dict[str, Any]]) -> list[str]:
    """The texts of any family's chunks."""
    found = []
    for chunk in chunks:
        delta = chunk.get("contentBlockDelta", {}).get("delta", chunk.get("delta", {}))
        found.append(chunk.get("outputText") or chunk.get("generation") or chunk.get("text") or delta.get("text") or "")
    return [text for text in found if text]


@pytest.mark.parametrize("model", BODIES)
def test_whole_streamed_conversed_and_counted_agree(runtime: Any, model: str) -> None:
    body = json.dumps(BODIES[model])
    whole = runtime.invoke_model(modelId=model, body=body)
    text, reason, made, read = told(json.loads(whole["body"].read()))
    headers = whole["ResponseMetadata"]["HTTPHeaders"]
    counts = tuple(int(headers[f"x-amzn-bedrock-{side}-token-count"]) for side in ("input", "output"))
    assert read in (counts[0], None)
    assert made in (counts[1], 0)
    assert "4711" in text, "the base copies the number from its prompt"

    stream = runtime.invoke_model_with_response_stream(modelId=model, body=body)
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream["body"]]
    assert "".join(pieces(chunks)) == text
    assert len(pieces(chunks)) > 1, "its first piece is never held back for others"
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == counts
    assert 0 < metrics["firstByteLatency"] <= metrics["invocationLatency"]

    conversed = runtime.converse(**conversation(model))
    assert conversed["output"]["message"]["content"] == [{"text": text.removeprefix(" ")}]
    assert conversed["usage"] == {
        "inputTokens": counts[0],
        "outputTokens": counts[1],
        "totalTokens": sum(counts),
    }
    events = list(runtime.converse_stream(**conversation(model))["stream"])
    assert "".join(pieces(events)) == text.removeprefix(" ")
    assert events[-1]["metadata"]["usage"] == conversed["usage"]
    assert events[-2]["messageStop"]["stopReason"] == conversed["stopReason"]
    assert (conversed["stopReason"] == "max_tokens") == (reason.lower() in ("length", "max_tokens"))

    for asked in ({"invokeModel": {"body": body}}, {"converse": {"messages": conversation(model)["messages"]}}):
        assert runtime.count_tokens(modelId=model, input=asked)["inputTokens"] == counts[0]


def test_llama_s_counts_are_the_engine_s_own_while_it_streams(runtime: Any) -> None:
    stream = runtime.invoke_model_with_response_stream(modelId=LLAMA, body=json.dumps(BODIES[LLAMA]))
    first, *rest = [json.loads(event["chunk"]["bytes"]) for event in stream["body"]]
    assert first["prompt_token_count"] == rest[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] > 0
    assert all(chunk["prompt_token_count"] is None for chunk in rest)
    counts = [chunk["generation_token_count"] for chunk in (first, *rest)]
    assert counts == sorted(counts)
    assert counts[0] <= 2
    assert counts[-1] == rest[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"]


def test_claude_s_events_and_its_stop_sequence(runtime: Any) -> None:
    body = json.dumps({**BODIES[HAIKU], "stop_sequences": ["71"]})
    stream = runtime.invoke_model_with_response_stream(modelId=HAIKU, body=body)
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream["body"]]
    kinds = [chunk["type"] for chunk in chunks]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert chunks[0]["message"]["usage"]["input_tokens"] == metrics["inputTokenCount"]
    assert chunks[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "71"}
    assert "".join(pieces(chunks)).endswith("4")
    whole = json.loads(runtime.invoke_model(modelId=HAIKU, body=body)["body"].read())
    assert (whole["stop_reason"], whole["stop_sequence"]) == ("stop_sequence", "71")
    assert whole["model"] == "claude-3-haiku-20240307"


def test_a_system_prompt_and_the_turns_before_are_read(runtime: Any) -> None:
    alone = runtime.converse(**conversation(HAIKU))["usage"]["inputTokens"]
    system = runtime.converse(**conversation(HAIKU, system=[{"text": "You answer customers."}]))["usage"]["inputTokens"]
    turns = [
        {"role": "user", "content": [{"text": "My order is 4711."}]},
        {"role": "assistant", "content": [{"text": "Thank you."}]},
        {"role": "user", "content": [{"text": QUESTION}]},
    ]
    talk = runtime.converse(**conversation(HAIKU, messages=turns))["usage"]["inputTokens"]
    assert alone < system
    assert alone < talk
    begun = [*turns, {"role": "assistant", "content": [{"text": "Order"}]}]
    answer = runtime.converse(**conversation(HAIKU, messages=begun))
    assert answer["usage"]["inputTokens"] > talk
    assert answer["output"]["message"]["content"][0]["text"].startswith(" ")


def test_cohere_makes_as_many_answers_as_are_asked(runtime: Any) -> None:
    body = {**BODIES[COHERE], "temperature": 5, "p": 1, "num_generations": 3}
    answer = runtime.invoke_model(modelId=COHERE, body=json.dumps(body))
    texts = [each["text"] for each in json.loads(answer["body"].read())["generations"]]
    assert len(set(texts)) == 3, "at this temperature no two answers are the same"
    whole = {**body, "stream": False}
    stream = runtime.invoke_model_with_response_stream(modelId=COHERE, body=json.dumps(whole))
    [chunk] = [json.loads(event["chunk"]["bytes"]) for event in stream["body"]]
    assert len(chunk["generations"]) == 3
    assert chunk["amazon-bedrock-invocationMetrics"]["outputTokenCount"] > 3


def test_cohere_tells_how_likely_its_tokens_were(runtime: Any) -> None:
    body = {**BODIES[COHERE], "num_generations": 2, "return_likelihoods": "GENERATION"}
    first, second = json.loads(runtime.invoke_model(modelId=COHERE, body=json.dumps(body))["body"].read())[
        "generations"
    ]
    tokens = first["token_likelihoods"]
    assert "".join(each["token"] for each in tokens) == first["text"]
    assert all(each["likelihood"] <= 0 for each in tokens)
    assert first["likelihood"] == pytest.approx(sum(each["likelihood"] for each in tokens) / len(tokens))
    assert second["token_likelihoods"] == tokens, "both are greedy"
    everything = json.dumps({**body, "num_generations": 1, "return_likelihoods": "ALL"})
    [all_of_it] = json.loads(runtime.invoke_model(modelId=COHERE, body=everything)["body"].read())["generations"]
    said = "".join(each["token"] for each in all_of_it["token_likelihoods"])
    assert said == DIALOGUE + first["text"], "the token that begins a text is expected from nothing"
    message = refused(runtime.invoke_model_with_response_stream, modelId=COHERE, body=everything)
    assert message.startswith("return_likelihoods is not available while streaming.")


def refused(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**members)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


LONG = "order 4711 " * 1000

TOO_LONG = {
    TITAN: "Too many input tokens. Max input tokens: 2047, request input token count: ",
    COHERE: "too many tokens: total number of tokens in the prompt cannot exceed 2047 - received ",
    LLAMA: "This model's maximum context length is 2048 tokens. Please reduce the length of the prompt",
    HAIKU: "Input is too long for requested model.",
    NOVA: "Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
}


@pytest.mark.parametrize("model", BODIES)
def test_a_prompt_beyond_the_context_is_told_in_the_family_s_words(runtime: Any, model: str) -> None:
    body = json.dumps(BODIES[model]).replace(QUESTION, LONG)
    for invoke in (runtime.invoke_model, runtime.invoke_model_with_response_stream):
        assert refused(invoke, modelId=model, body=body).startswith(TOO_LONG[model])
    messages = [{"role": "user", "content": [{"text": LONG}]}]
    for ask in (runtime.converse, runtime.converse_stream):
        message = refused(ask, **conversation(model, messages=messages))
        assert message.startswith(f"The model returned the following errors: {TOO_LONG[model]}")


@pytest.mark.parametrize("truncate", ["START", "END"])
def test_cohere_cuts_a_long_prompt_where_it_is_told_to(runtime: Any, truncate: str) -> None:
    body = {**BODIES[COHERE], "prompt": LONG, "max_tokens": 48, "truncate": truncate}
    answer = runtime.invoke_model(modelId=COHERE, body=json.dumps(body))
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-bedrock-input-token-count"] == "2000"


@pytest.mark.parametrize("model", BODIES)
def test_a_wrong_body_names_what_is_wrong(runtime: Any, model: str) -> None:
    body = json.dumps({**BODIES[model], "max_length": 5})
    told_to_caller = "#: extraneous key [max_length] is not permitted"
    for invoke in (runtime.invoke_model, runtime.invoke_model_with_response_stream):
        assert refused(invoke, modelId=model, body=body) == (
            f"Malformed input request: {told_to_caller}, please reformat your input and try again."
        )
    message = refused(runtime.converse, **conversation(model, additionalModelRequestFields={"max_length": 5}))
    assert message.endswith(f"Malformed input request: {told_to_caller}, please reformat your input and try again.")


def test_the_aws_cli_converses(server: Server, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, **server.environment, "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_PAGER": ""}

    def aws(*words: str) -> Any:
        command = [sys.executable, str(Path(sys.executable).with_name("aws")), "bedrock-runtime", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    messages = json.dumps([{"role": "user", "content": [{"text": QUESTION}]}])
    config = json.dumps({"maxTokens": 24, "temperature": 0})
    answer = aws("converse", "--model-id", NOVA, "--messages", messages, "--inference-config", config)
    assert "4711" in answer["output"]["message"]["content"][0]["text"]
    assert answer["usage"]["totalTokens"] == answer["usage"]["inputTokens"] + answer["usage"]["outputTokens"]
    asked = json.dumps({"converse": {"messages": json.loads(messages)}})
    counted = aws("count-tokens", "--model-id", NOVA, "--input", asked)
    assert counted == {"inputTokens": answer["usage"]["inputTokens"]}
