"""What Converse refuses, in AWS's words where they are known, else by the member's name."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.bedrock_server import ACCOUNT, REGION, refused
from tests.api.converse_world import COHERE, HAIKU, LLAMA, LLAMA_2, NOVA, asked, conversing, said
from tests.api.runtime_server import EXPRESS, Runtime, runtime_over
from tests.store.resources import BASE_ARN, LONG_ID

TOOLS = {"tools": [{"toolSpec": {"name": "clock", "inputSchema": {"json": {"type": "object"}}}}]}
USED = {"toolUse": {"toolUseId": "a", "name": "clock", "input": {}}}
MODEL_SAID = "The model returned the following errors: "


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with conversing(tmp_path_factory.mktemp("refusals")) as running:
        yield running


def content(*blocks: dict[str, Any]) -> dict[str, Any]:
    return asked(messages=[{"role": "user", "content": list(blocks)}])


def unsupported(kind: str) -> str:
    return (
        f"This model doesn't support the {kind} content block that you provided. Update the content "
        "block and try again."
    )


BYTES = {"source": {"bytes": b"x"}}

REFUSALS: list[tuple[dict[str, Any], str]] = [
    # the conversation
    (
        asked(),
        (
            "A conversation must start with a user message. Try again with a conversation that starts with "
            "a user message."
        ),
    ),
    (
        asked(messages=[said("assistant", "a")]),
        (
            "A conversation must start with a user message. Try again with a conversation that starts with "
            "a user message."
        ),
    ),
    (
        asked(messages=[said("user", "a"), said("user", "b")]),
        (
            "A conversation must alternate between user and assistant roles. Make sure the conversation "
            "alternates between user and assistant roles and try again."
        ),
    ),
    (
        asked("a", "b", modelId=LLAMA_2),
        ("A conversation must end with a user message. Try again with a conversation that ends with a user message."),
    ),
    (
        asked("a", "b", "c", modelId=COHERE),
        ("This model doesn't support conversation history. Try again with input that only includes one user message."),
    ),
    (
        content(),
        (
            "The content field in the Message object at messages.0 is empty. Add a ContentBlock object to "
            "the content field and try again."
        ),
    ),
    (
        asked("a", "b", " ", modelId=NOVA),
        (
            "The text field in the ContentBlock object at messages.2.content.0 is blank. Add text to the "
            "text field, and try again."
        ),
    ),
    (asked(""), f"{MODEL_SAID}messages: text content blocks must be non-empty"),
    (asked(" "), f"{MODEL_SAID}messages: text content blocks must contain non-whitespace text"),
    (
        asked("a", system=[{"text": " "}]),
        (
            "The text field in the SystemContentBlock object at system.0 is blank. Add text to the text "
            "field, and try again."
        ),
    ),
    # what a model does not have
    *(
        (
            asked("a", modelId=model, system=[{"text": "b"}]),
            (
                "This model doesn't support system messages. Try again without a system message or use a model "
                "that supports system messages."
            ),
        )
        for model in (EXPRESS, "amazon.titan-text-premier-v1:0", COHERE)
    ),
    (asked("a", modelId=EXPRESS, toolConfig=TOOLS), "This model doesn't support tool use."),
    (
        asked("a", toolConfig=TOOLS),
        (
            "toolConfig is not available: the weights behind this model answer in text and call no tools. "
            "Leave toolConfig out."
        ),
    ),
    (
        asked(messages=[said("user", "a"), {"role": "assistant", "content": [USED]}]),
        "This model doesn't support tool use.",
    ),
    (content({"text": "a"}, {"image": {"format": "png", **BYTES}}), unsupported("image")),
    (content({"video": {"format": "mp4", **BYTES}}), unsupported("video")),
    (content({"document": {"format": "txt", "name": "n", **BYTES}}), unsupported("document")),
    (content({"guardContent": {"text": {"text": "a"}}}), unsupported("guardContent")),
    (asked("a", system=[{"guardContent": {"text": {"text": "a"}}}]), unsupported("guardContent")),
    (
        content({"text": "a"}, {"cachePoint": {"type": "default"}}),
        (
            "You invoked an unsupported model or your request did not allow prompt caching. See the "
            "documentation for more information."
        ),
    ),
    # options
    (
        asked("a", guardrailConfig={"guardrailIdentifier": "abc", "guardrailVersion": "1"}),
        "The guardrail identifier or version provided in the request does not exist.",
    ),
    (
        asked("a", performanceConfig={"latency": "optimized"}),
        "Value 'optimized' at performanceConfig.latency is not supported for this model.",
    ),
    (asked("a", serviceTier={"type": "flex"}), "Value 'flex' at serviceTier.type is not supported for this model."),
    (
        asked("a", promptVariables={"x": {"text": "y"}}),
        "promptVariables is for prompts of Prompt management, which modelId does not name.",
    ),
    (
        asked("a", outputConfig={"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}}),
        ("This model doesn't support the outputConfig.textFormat field. Remove outputConfig.textFormat and try again."),
    ),
    (
        asked("a", additionalModelResponseFieldPaths=["x"]),
        "The additionalModelResponseFieldPaths value 'x' is not a valid JSON pointer. Start it with /.",
    ),
    (
        asked("a", inferenceConfig={"maxTokens": 4097}),
        (
            "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum "
            "tokens value that is lower than 4096."
        ),
    ),
    # what the model says itself
    (
        asked("a", additionalModelRequestFields={"foo": 1}),
        (
            f"{MODEL_SAID}Malformed input request: #: extraneous key [foo] is not permitted, please reformat "
            "your input and try again."
        ),
    ),
    (
        asked("a", additionalModelRequestFields={"top_k": 501}),
        (
            f"{MODEL_SAID}Malformed input request: #/top_k: 501 is not less or equal to 500, please reformat "
            "your input and try again."
        ),
    ),
    (
        asked("a", additionalModelRequestFields={"messages": []}),
        "The additional field messages conflicts with an existing field.",
    ),
    (asked("a", additionalModelRequestFields=[1]), "additionalModelRequestFields must be a JSON object."),
    (
        asked("a", modelId=COHERE, additionalModelRequestFields={"num_generations": 2}),
        "A conversation has one answer and tells no likelihoods: leave num_generations and return_likelihoods out.",
    ),
    (
        asked("a", modelId=COHERE, additionalModelRequestFields={"return_likelihoods": "ALL"}),
        "A conversation has one answer and tells no likelihoods: leave num_generations and return_likelihoods out.",
    ),
    (
        asked("x" * 43_000, modelId=EXPRESS),
        (
            f"{MODEL_SAID}Malformed input request: expected maxLength: 42000, actual: 43011, please reformat "
            "your input and try again."
        ),
    ),
    (
        asked("a", modelId=EXPRESS, inferenceConfig={"topP": 0}),
        (
            f"{MODEL_SAID}Malformed input request: #/textGenerationConfig/topP: 0.0 is not greater than 0, "
            "please reformat your input and try again."
        ),
    ),
    # the engine's own bound
    (asked("long"), f"{MODEL_SAID}Input is too long for requested model."),
    (
        asked("long", modelId=NOVA),
        (
            f"{MODEL_SAID}Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please "
            "update the input to try again."
        ),
    ),
    (
        asked("long", modelId=LLAMA_2),
        (f"{MODEL_SAID}This model's maximum context length is 5 tokens. Please reduce the length of the prompt"),
    ),
    (
        asked("long", modelId=EXPRESS),
        f"{MODEL_SAID}Too many input tokens. Max input tokens: 4, request input token count: 9",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("question", "told"), REFUSALS)
def test_refusals(runtime: Runtime, question: dict[str, Any], told: str, stream: bool) -> None:
    client = runtime.client()
    ask = client.converse_stream if stream else client.converse
    assert refused(ask, **question) == ("ValidationException", told, 400)
    assert runtime.leases == 0


def test_tools_while_streaming_are_llama_s_own_refusal(runtime: Runtime) -> None:
    question = asked("a", modelId=LLAMA, toolConfig=TOOLS)
    client = runtime.client()
    assert refused(client.converse_stream, **question)[1] == ("This model doesn't support tool use in streaming mode.")
    assert refused(client.converse, **question)[1].startswith("toolConfig is not available")


@pytest.mark.parametrize("stream", [False, True])
def test_models_that_cannot_be_asked(runtime: Runtime, stream: bool) -> None:
    client = runtime.client()
    ask = client.converse_stream if stream else client.converse
    for model in (LONG_ID, BASE_ARN, f"{HAIKU}:200k"):
        assert refused(ask, **asked("a", modelId=model)) == ("ResourceNotFoundException", "Model not found.", 404)
    for model in ("nobody.knows-this", f"arn:aws:bedrock:{REGION}:{ACCOUNT}:prompt/ABCDEFGHIJ"):
        assert refused(ask, **asked("a", modelId=model)) == (
            "ValidationException",
            "The provided model identifier is invalid.",
            400,
        )
    custom = runtime.world.model(80 + stream)
    assert "with on-demand throughput isn’t supported" in refused(ask, **asked("a", modelId=custom.arn))[1]


def test_the_wire_knows_the_ranges(runtime: Runtime) -> None:
    message = refused(runtime.client().converse, **asked("a", inferenceConfig={"temperature": 1.5}))[1]
    assert message.endswith("Member must have value less than or equal to 1")


def test_strict_stop_sequences_hold_for_converse(tmp_path: Any) -> None:
    with runtime_over(tmp_path, strict=True) as strict:
        question = asked("a", modelId=EXPRESS, inferenceConfig={"stopSequences": ["END"]})
        message = refused(strict.client().converse, **question)[1]
    assert message == (
        f"{MODEL_SAID}Malformed input request: string [END] does not match pattern ^(\\|+|User:)$, please reformat "
        "your input and try again."
    )
