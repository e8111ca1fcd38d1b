"""The client end of an engine: a prompt goes out over HTTP, pieces come back; closing the iterator drops the work.

Speaks OpenAI's completion and chat verbs and vLLM's tokenize, so our own engine or vLLM may stand at the other end.
Knows one URL; nothing of processes, leases or of the dialect that the caller speaks.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from outcrop.datasets.chat import KNOBS
from outcrop.errors import (
    ModelErrorException,
    ModelNotReadyException,
    ModelTimeoutException,
    ThrottlingException,
    ValidationException,
)
from outcrop.records import Piece, Prompt
from outcrop.serve.answers import ANSWERS, Answer, Choice
from outcrop.serve.events import CONNECT_SECONDS, Broken, Refused, Silent, Unreachable, events

HEALTH_SECONDS: Final = 1.0
"""Whoever collects figures does not wait long for one engine's."""


STARTING: Final = "The model's engine is starting again. Wait a few seconds and try again."
TOO_SLOW: Final = "The model did not answer in time. Ask for fewer tokens and try again."
BROKE_OFF: Final = "The model's engine broke off"
UNENDED: Final = "The engine ended the stream before the answer was whole."
UNCOUNTED: Final = "The engine did not tell how many tokens its answer has."

JSON: Final = {"content-type": "application/json"}


class PromptTooLong(ValidationException):
    """The prompt leaves no room for an answer; each family says it in its own words.

    limit: the most tokens that a prompt may have; count: this one's.
    """

    def __init__(self, message: str, limit: int, count: int) -> None:
        super().__init__(message, code=ValidationException.__name__)
        self.limit, self.count = limit, count


class Line:
    """The way to one engine.

    url: http://127.0.0.1:port; key: its bearer key; timeout: longest silence in seconds before ModelTimeoutException.
    Every verb may also raise ValidationException (the engine refuses the prompt), ThrottlingException (too many wait),
    ModelNotReadyException (nobody answers there) and ModelErrorException. Nothing is held between calls, so nobody
    closes it: whoever still has it when its engine is gone is told to try again.
    """

    def __init__(self, url: str, key: str = "", timeout: float = 600.0) -> None:
        self.url = url
        self._key, self._timeout = key, timeout
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            # An engine is on this machine: no proxy, no certificates to load.
            trust_env=False,
            verify=False,  # noqa: S501
            # No connection is kept: one to an engine that has died since would break in a way that looks as if the
            # engine had died of this prompt. A new one is refused at once, and the caller may try again.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def complete(self, model: str, prompt: Prompt, timeout: float | None = None) -> tuple[str, Piece]:
        """The whole answer, and its last piece with `finish` and the counts (that piece's text is empty)."""
        answer = _read(self._post(verb(prompt), body(model, prompt), timeout))
        if not answer.choices:
            raise ModelErrorException("The engine's answer holds no text.", originalStatusCode=500)
        if answer.usage is None:
            raise ModelErrorException(UNCOUNTED, originalStatusCode=500)
        choice = answer.choices[0]
        last = choice.last("", answer.usage)
        return choice.said(), replace(last, likelihoods=choice.likelihoods()) if prompt.likelihoods else last

    def count(self, model: str, prompt: Prompt) -> int:
        """How many tokens the prompt is for the engine's own tokenizer."""
        asked = {"model": model, **_question(prompt)}
        return int(msgspec.json.decode(self._post("/tokenize", asked))["count"])

    def figures(self) -> dict[str, float]:
        """Every number that the engine's /health tells of itself; none where it does not answer at once."""
        try:
            response = self._client.get("/health", timeout=HEALTH_SECONDS)
            told = response.json() if response.content else {}
        except (httpx.HTTPError, ValueError):
            return {}
        found = told.items() if isinstance(told, dict) else ()
        return {name: value for name, value in found if isinstance(value, int | float)}

    async def stream(self, model: str, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The answer as it comes; the last piece has `finish`, and the counts are those so far. Closing it stops the
        engine."""
        options = {"include_usage": True, "continuous_usage_stats": True}
        asked = msgspec.json.encode({**body(model, prompt), "stream": True, "stream_options": options})
        held: Choice | None = None
        try:
            async with aclosing(events(self.url, verb(prompt), asked, self._key, self._timeout)) as found:
                async for data in found:
                    event = _read(data)
                    if event.error is not None:
                        raise ModelErrorException(_told({"error": event.error}), originalStatusCode=500)
                    if event.choices:
                        choice = event.choices[0]
                        if choice.finish_reason:
                            held = choice
                        else:
                            yield choice.piece(event.usage)
                    elif held is not None and event.usage is not None:
                        yield held.last(held.said(), event.usage)
                        return
        except Refused as fault:
            raise refusal(fault.status, fault.body) from fault
        except Unreachable as fault:
            raise ModelNotReadyException(STARTING) from fault
        except Silent as fault:
            raise ModelTimeoutException(TOO_SLOW) from fault
        except Broken as fault:
            raise ModelErrorException(f"{BROKE_OFF}: {fault}") from fault
        raise ModelErrorException(UNENDED if held is None else UNCOUNTED, originalStatusCode=500)

    def load_adapter(self, name: str, folder: Path, timeout: float | None = None) -> None:
        """Have the engine serve a PEFT folder under a name."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, timeout)

    def unload_adapter(self, name: str, timeout: float | None = None) -> None:
        """Have the engine forget an adapter."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name}, timeout)

    def _post(self, path: str, document: Mapping[str, Any], timeout: float | None = None) -> bytes:
        """The answer's body. timeout: longest silence in seconds, where it is not the line's own."""
        patience = httpx.Timeout(self._timeout if timeout is None else timeout, connect=CONNECT_SECONDS)
        try:
            response = self._client.post(path, content=msgspec.json.encode(document), headers=JSON, timeout=patience)
        except httpx.HTTPError as fault:
            raise _translated(fault) from fault
        if response.is_error:
            raise refusal(response.status_code, response.content)
        return response.content


def verb(prompt: Prompt) -> str:
    """A conversation is for the chat verb, which applies the chat template; a text is taken as it stands."""
    return "/v1/chat/completions" if prompt.turns else "/v1/completions"


def body(model: str, prompt: Prompt) -> dict[str, Any]:
    """A prompt as OpenAI's request; top_k and the truncation are vLLM's additions."""
    asked = {
        "model": model,
        **_question(prompt),
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k,
        "stop": list(prompt.stop),
        "seed": prompt.seed,
    }
    if prompt.likelihoods is not None:
        asked |= {"logprobs": 0, **({"prompt_logprobs": 0} if prompt.likelihoods == "ALL" else {})}
    if prompt.truncate is not None:
        side = "left" if prompt.truncate == "START" else "right"
        asked |= {"truncate_prompt_tokens": -1, "truncation_side": side}
    return asked


def _question(prompt: Prompt) -> dict[str, Any]:
    """What an engine is to go on from, in the members of the prompt's verb."""
    if not prompt.turns:
        return {"prompt": prompt.text}
    messages = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    if prompt.system is not None:
        messages.insert(0, {"role": "system", "content": prompt.system})
    begun = prompt.turns[-1].role == "assistant"
    return {
        "messages": messages,
        "add_generation_prompt": not begun,
        "continue_final_message": begun,
        "chat_template_kwargs": dict(KNOBS),
    }


def refusal(status: int, body: bytes) -> Exception:
    """The error that an engine's answer means to our caller."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        document = body.decode("utf-8", "replace")
    told = _told(document)
    if status == httpx.codes.BAD_REQUEST:
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict) and "prompt_tokens" in error:
            return PromptTooLong(told, error["max_prompt_tokens"], error["prompt_tokens"])
        return ValidationException(told)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return ThrottlingException("Too many requests, please wait before trying again.")
    return ModelErrorException(told, originalStatusCode=status)


def _translated(fault: httpx.HTTPError) -> Exception:
    """The error that a broken connection means to our caller."""
    if isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout):
        return ModelNotReadyException(STARTING)
    if isinstance(fault, httpx.TimeoutException):
        return ModelTimeoutException(TOO_SLOW)
    return ModelErrorException(f"{BROKE_OFF}: {fault or type(fault).__name__}")


def _read(document: bytes) -> Answer:
    """An answer's document or an event's; what is none is the engine's fault."""
    try:
        return ANSWERS.decode(document)
    except msgspec.DecodeError as fault:
        raise ModelErrorException(f"The engine's answer cannot be read: {fault}", originalStatusCode=500) from fault


def _told(document: Any) -> str:
    """The message of an error document, OpenAI's way or vLLM's older one."""
    error = document.get("error", document) if isinstance(document, dict) else document
    return str(error.get("message", error) if isinstance(error, dict) else error)
