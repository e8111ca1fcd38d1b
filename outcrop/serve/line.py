"""The client end of an engine: a prompt goes out over HTTP, pieces come back; closing the iterator drops the work.

Speaks OpenAI's completion verbs, so our own engine or vLLM may stand at the other end. Knows one URL; nothing of
processes, leases or of the dialect that the caller speaks.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from outcrop.errors import (
    ModelErrorException,
    ModelNotReadyException,
    ModelTimeoutException,
    ThrottlingException,
    ValidationException,
)
from outcrop.records import Piece, Prompt

CONNECT_SECONDS: Final = 5.0
"""An engine on this machine that does not take a connection by then is dead or dying."""

FINISHES: Final = {"stop": "stop", "length": "length"}


class Line:
    """The way to one engine.

    url: http://127.0.0.1:port; key: its bearer key; timeout: longest silence in seconds before ModelTimeoutException.
    Every verb may also raise ValidationException (the engine refuses the prompt), ThrottlingException (too many wait),
    ModelNotReadyException (nobody answers there) and ModelErrorException.
    """

    def __init__(self, url: str, key: str = "", timeout: float = 600.0) -> None:
        self.url = url
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {"authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(timeout, connect=CONNECT_SECONDS),
            # An engine is on this machine: no proxy, no certificates to load.
            "trust_env": False,
            "verify": False,
        }
        # No connection is kept: one to an engine that has died since would break in a way that looks as if the engine
        # had died of this prompt. A new one is refused at once, and the caller may try again.
        self._client = httpx.Client(**self._options, limits=httpx.Limits(max_keepalive_connections=0))

    def close(self) -> None:
        """Close the client; answers under way break off."""
        self._client.close()

    def complete(self, model: str, prompt: Prompt) -> tuple[str, Piece]:
        """The whole answer, and its last piece with `finish` and the counts (that piece's text is empty)."""
        answer = self._post("/v1/completions", body(model, prompt))
        choice, usage = answer["choices"][0], answer["usage"]
        return choice["text"], _last("", choice, usage)

    async def stream(self, model: str, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The answer as it comes; only the last piece has `finish` and the counts. Closing it stops the engine."""
        asked = {**body(model, prompt), "stream": True, "stream_options": {"include_usage": True}}
        try:
            # A client of its own for each stream: it belongs to the caller's event loop, and closing it is the signal.
            async with (
                httpx.AsyncClient(**self._options) as client,
                client.stream("POST", "/v1/completions", json=asked) as response,
            ):
                if response.is_error:
                    await response.aread()
                    raise refusal(response)
                held: Mapping[str, Any] | None = None
                async for line in response.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        raise ModelErrorException(_told(event), originalStatusCode=500)
                    if not event["choices"]:
                        yield _last(held["text"] if held else "", held or {}, event["usage"])
                        return
                    choice = event["choices"][0]
                    if choice["finish_reason"]:
                        held = choice
                    else:
                        yield Piece(choice["text"])
                raise ModelErrorException("The engine ended the stream before the answer was whole.")
        except httpx.HTTPError as fault:
            raise translated(fault) from fault

    def load_adapter(self, name: str, folder: Path) -> None:
        """Have the engine serve a PEFT folder under a name."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def unload_adapter(self, name: str) -> None:
        """Have the engine forget an adapter."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name})

    def _post(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        try:
            response = self._client.post(path, json=document)
        except httpx.HTTPError as fault:
            raise translated(fault) from fault
        if response.is_error:
            raise refusal(response)
        answer: dict[str, Any] = response.json()
        return answer


def body(model: str, prompt: Prompt) -> dict[str, Any]:
    """A prompt as OpenAI's completion request; top_k is vLLM's addition."""
    return {
        "model": model,
        "prompt": prompt.text,
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k,
        "stop": list(prompt.stop),
        "seed": prompt.seed,
    }


def refusal(response: httpx.Response) -> Exception:
    """The error that an engine's answer means to our caller."""
    try:
        told = _told(response.json())
    except ValueError:
        told = response.text
    if response.status_code == httpx.codes.BAD_REQUEST:
        return ValidationException(told)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return ThrottlingException("Too many requests, please wait before trying again.")
    return ModelErrorException(told, originalStatusCode=response.status_code)


def translated(fault: httpx.HTTPError) -> Exception:
    """The error that a broken connection means to our caller."""
    if isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout):
        return ModelNotReadyException("The model's engine is starting again. Wait a few seconds and try again.")
    if isinstance(fault, httpx.TimeoutException):
        return ModelTimeoutException("The model did not answer in time. Ask for fewer tokens and try again.")
    return ModelErrorException(f"The model's engine broke off: {fault or type(fault).__name__}")


def _last(text: str, choice: Mapping[str, Any], usage: Mapping[str, int]) -> Piece:
    reason = choice.get("finish_reason")
    return Piece(
        text=text,
        finish="stop_sequence" if choice.get("stop_reason") is not None else FINISHES.get(str(reason), "stop"),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


def _told(document: Any) -> str:
    """The message of an error document, OpenAI's way or vLLM's older one."""
    error = document.get("error", document) if isinstance(document, dict) else document
    return str(error.get("message", error) if isinstance(error, dict) else error)
