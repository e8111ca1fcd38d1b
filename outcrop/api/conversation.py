"""What Converse takes: its messages and settings to a family's own request, or AWS's words for why not.

A conversation becomes the body that the model's family takes, is held to that family's schema, and what the schema says
is passed on as the model's own error, as AWS does. The turns themselves go to the engine, which writes them with the
chat template of its weights. Knows a row's Converse features; nothing of engines or leases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from outcrop.api.invocation import NO_GUARDRAIL, Invoked, usual
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import ValidationException
from outcrop.records import Turn
from outcrop.serve.dialects.families import family
from outcrop.serve.dialects.family import ALTERNATE, BLOCKS, FIRST_IS_USER, Asked, Chat, Document, Terms, understand

PASSED_ON: Final = "The model returned the following errors: "
"""Before what a model says itself, when it is asked through Converse."""

NO_CONVERSE: Final = (
    "This action doesn't support the model that you provided. Try again with a supported text or chat model."
)
NO_HISTORY: Final = (
    "This model doesn't support conversation history. Try again with input that only includes one user message."
)
NO_SYSTEM: Final = (
    "This model doesn't support system messages. Try again without a system message or use a model that supports "
    "system messages."
)
NO_TOOLS: Final = "This model doesn't support tool use."
NO_STREAMED_TOOLS: Final = "This model doesn't support tool use in streaming mode."
NO_CACHE: Final = (
    "You invoked an unsupported model or your request did not allow prompt caching. See the documentation for more "
    "information."
)
LAST_IS_USER: Final = (
    "A conversation must end with a user message. Try again with a conversation that ends with a user message."
)


def understood(invoked: Invoked, params: Mapping[str, Any], terms: Terms, *, stream: bool = False) -> Asked:
    """What a Converse request asks of a model; raises ValidationException in AWS's words."""
    row = invoked.row
    check_row(row, stream=stream)
    check_options(params)
    check_tools(row, params, stream=stream)
    chat = read_chat(row, params, terms)
    document = merged(family(row.body).compose(chat), params.get("additionalModelRequestFields"))
    try:
        asked = understand(family(row.body), document, terms)
    except ValidationException as fault:
        raise ValidationException(PASSED_ON + fault.message) from fault
    if asked.generations > 1 or asked.prompt.likelihoods is not None:
        raise ValidationException(
            "A conversation has one answer and tells no likelihoods: leave num_generations and return_likelihoods out."
        )
    stop = asked.prompt.stop if chat.stop is None else chat.stop
    # What the family read of additionalModelRequestFields counts as well: both at once were refused before.
    system = asked.prompt.system if chat.system is None else chat.system
    if stands(invoked, chat, system):
        return replace(asked, prompt=replace(asked.prompt, text=chat.turns[0].text, stop=stop))
    return replace(asked, prompt=replace(asked.prompt, text="", turns=chat.turns, system=system, stop=stop))


def stands(invoked: Invoked, chat: Chat, system: str | None) -> bool:
    """Whether a lone user turn is the prompt as it stands: to a custom model whose data were prompts and completions,
    or plain text, which show it no chat template."""
    way = invoked.row.customizations.get("FINE_TUNING")
    taught = invoked.custom and way is not None and way.format == "prompt-completion"
    return taught and system is None and len(chat.turns) == 1


def check_row(row: FoundationModel, *, stream: bool) -> None:
    """Refuse models that do not converse, or do not while streaming."""
    if not row.converse:
        raise ValidationException(NO_CONVERSE)
    if stream and "stream" not in row.converse:
        raise ValidationException("The model is unsupported for streaming")


def check_options(params: Mapping[str, Any]) -> None:
    """Refuse what cannot be had here; nothing is ignored silently. requestMetadata is for logs alone."""
    if params.get("guardrailConfig"):
        raise ValidationException(NO_GUARDRAIL)
    usual("performanceConfig.latency", (params.get("performanceConfig") or {}).get("latency"), "standard")
    usual("serviceTier.type", (params.get("serviceTier") or {}).get("type"), "default")
    if params.get("promptVariables"):
        raise ValidationException("promptVariables is for prompts of Prompt management, which modelId does not name.")
    if params.get("outputConfig"):
        raise ValidationException(
            "This model doesn't support the outputConfig.textFormat field. Remove outputConfig.textFormat and try "
            "again."
        )


def check_tools(row: FoundationModel, params: Mapping[str, Any], *, stream: bool) -> None:
    """Refuse tools in AWS's words where AWS does too, else by the member's name: the weights answer in text."""
    if not params.get("toolConfig"):
        return
    if "tools" not in row.converse:
        raise ValidationException(NO_TOOLS)
    if stream and "streamed_tools" not in row.converse:
        raise ValidationException(NO_STREAMED_TOOLS)
    raise ValidationException(
        "toolConfig is not available: the weights behind this model answer in text and call no tools. Leave toolConfig "
        "out."
    )


def read_chat(row: FoundationModel, params: Mapping[str, Any], terms: Terms) -> Chat:
    """The conversation and its settings; raises ValidationException in AWS's words."""
    turns = _turns(row, params.get("messages") or ())
    system = _system(row, params.get("system") or ())
    config = params.get("inferenceConfig") or {}
    largest = config.get("maxTokens", terms.max_tokens)
    if largest > terms.max_tokens:
        raise ValidationException(
            f"The maximum tokens you requested exceeds the model limit of {terms.max_tokens}. Try again with a maximum "
            f"tokens value that is lower than {terms.max_tokens}."
        )
    stop = config.get("stopSequences")
    return Chat(
        turns=turns,
        system=system,
        max_tokens=largest,
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        stop=None if stop is None else tuple(stop),
    )


def _turns(row: FoundationModel, messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    if not messages or messages[0]["role"] != "user":
        raise ValidationException(FIRST_IS_USER)
    if any(before["role"] == after["role"] for before, after in pairwise(messages)):
        raise ValidationException(ALTERNATE)
    if len(messages) > 1 and "chat" not in row.converse:
        raise ValidationException(NO_HISTORY)
    if messages[-1]["role"] != "user" and not family(row.body).prefill:
        raise ValidationException(LAST_IS_USER)
    blank = family(row.body).told_blank
    return tuple(_turn(number, message, blank=blank) for number, message in enumerate(messages))


def _turn(number: int, message: Mapping[str, Any], *, blank: bool) -> Turn:
    """One message; `blank`: its text may be, the model's family will say so."""
    place = f"messages.{number}"
    if not message["content"]:
        raise ValidationException(
            f"The content field in the Message object at {place} is empty. Add a ContentBlock object to the content "
            "field and try again."
        )
    texts = [_text(block) for block in message["content"]]
    for index, text in enumerate(texts):
        if not blank and not text.strip():
            raise ValidationException(
                f"The text field in the ContentBlock object at {place}.content.{index} is blank. Add text to the text "
                "field, and try again."
            )
    return Turn(message["role"], BLOCKS.join(texts))


def _text(block: Mapping[str, Any]) -> str:
    for kind in block:
        if kind in ("toolUse", "toolResult"):
            raise ValidationException(NO_TOOLS)
        if kind == "cachePoint":
            raise ValidationException(NO_CACHE)
        if kind != "text":
            raise ValidationException(_unsupported(kind))
    return str(block["text"])


def _unsupported(kind: str) -> str:
    start = f"This model doesn't support the {kind} content block that you provided."
    return f"{start} Update the content block and try again."


def _system(row: FoundationModel, blocks: Sequence[Mapping[str, Any]]) -> str | None:
    if not blocks:
        return None
    if "system" not in row.converse:
        raise ValidationException(NO_SYSTEM)
    for index, block in enumerate(blocks):
        if "cachePoint" in block:
            raise ValidationException(NO_CACHE)
        if "text" not in block:
            raise ValidationException(_unsupported(next(iter(block))))
        if not block["text"].strip():
            raise ValidationException(
                f"The text field in the SystemContentBlock object at system.{index} is blank. Add text to the text "
                "field, and try again."
            )
    return BLOCKS.join(block["text"] for block in blocks)


def merged(document: Document, more: Any) -> Document:
    """The family's body with additionalModelRequestFields in it; what both name is refused."""
    if more is None:
        return document
    if not isinstance(more, Mapping):
        raise ValidationException("additionalModelRequestFields must be a JSON object.")
    found = dict(document)
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(found.get(name), dict):
            found[name] = merged(found[name], value)
        elif name in found:
            raise ValidationException(f"The additional field {name} conflicts with an existing field.")
        else:
            found[name] = value
    return found
