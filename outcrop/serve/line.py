"""The client end of an engine: a prompt goes out over HTTP, pieces come back; closing the iterator drops the work.

Our own engine or vLLM stands at the other end: what they are asked differs by their `Manner`, what they say does not.
Knows one URL or socket; nothing of processes, leases or of the dialect that the caller speaks.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from outcrop.datasets.lead import Lead
from outcrop.errors import (
    ModelErrorException,
    ModelNotReadyException,
    ModelTimeoutException,
    ServiceError,
    ThrottlingException,
    ValidationException,
)
from outcrop.records import Piece, Prompt
from outcrop.serve.answers import ANSWERS, Answer, of_told
from outcrop.serve.events import CONNECT_SECONDS, Broken, Refused, Silent, Unreachable, events
from outcrop.serve.manner import Manner, PromptTooLong, Question
from outcrop.serve.own import OwnManner
from outcrop.serve.trunk import Trunk

HEALTH_SECONDS: Final = 1.0
"""Whoever collects figures does not wait long for one engine's."""

TELL_SECONDS: Final = 10.0
"""Longest silence of an engine that is asked about itself, so that a prompt can be put: it computes nothing then."""

ASKERS: Final = 2
"""Threads that put prompts into an engine's tokens for streams: an engine that hangs holds up no other's streams."""

STARTING: Final = "The model's engine is starting again. Wait a few seconds and try again."
SILENT: Final = "The model's engine does not answer. Wait a few seconds and try again."
TOO_SLOW: Final = "The model did not answer in time. Ask for fewer tokens and try again."
BROKE_OFF: Final = "The model's engine broke off"
UNENDED: Final = "The engine ended the stream before the answer was whole."
UNCOUNTED: Final = "The engine did not tell how many tokens its answer has."

JSON: Final = {"content-type": "application/json"}


class Line:
    """The way to one engine.

    url: http://127.0.0.1:port, of which only the name counts where there is a socket, a path; key: its bearer key;
    timeout: longest silence in seconds before ModelTimeoutException; trunk: the port at which it is asked for streams,
    None for one that gives them over HTTP; manner: how it is asked, our own engine's way.
    Every verb may also raise ValidationException (the engine refuses the prompt), ThrottlingException (too many wait),
    ModelNotReadyException (nobody answers there) and ModelErrorException. Between calls nothing is open, so nobody
    closes it: whoever still has it when its engine is gone is told to try again.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        timeout: float = 600.0,
        *,
        socket: Path | None = None,
        trunk: int | None = None,
        manner: Manner | None = None,
    ) -> None:
        self.url = url
        self._key, self._timeout, self._socket, self._trunk = key, timeout, socket, trunk
        self._trunks: dict[asyncio.AbstractEventLoop, Trunk] = {}
        self._manner = manner or OwnManner()
        # Its threads begin with the first use, and end with this line.
        self._askers = ThreadPoolExecutor(ASKERS, thread_name_prefix="question")
        transport = httpx.HTTPTransport(
            uds=str(socket) if socket is not None else None,
            # An engine is on this machine: no proxy, no certificates to load.
            trust_env=False,
            verify=False,
            # No connection is kept: one to an engine that has died since would break in a way that looks as if the
            # engine had died of this prompt. A new one is refused at once, and the caller may try again.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, headers=headers, transport=transport, trust_env=False)

    def complete(self, model: str, prompt: Prompt, timeout: float | None = None) -> tuple[str, Piece]:
        """The whole answer, and its last piece with `finish` and the counts (that piece's text is empty)."""
        asked = self._manner.question(model, prompt, self._tell)
        answer = _read(self._post(asked.verb, asked.body, timeout))
        if not answer.choices:
            raise ModelErrorException("The engine's answer holds no text.", originalStatusCode=500)
        if answer.usage is None:
            raise ModelErrorException(UNCOUNTED, originalStatusCode=500)
        choice = answer.choices[0]
        last = choice.last("", answer.usage)
        text = choice.said().removeprefix(asked.lead)
        return text, replace(last, likelihoods=choice.likelihoods()) if prompt.likelihoods else last

    def count(self, model: str, prompt: Prompt) -> int:
        """How many tokens the prompt is for the engine's own tokenizer."""
        return self._manner.count(model, prompt, self._post)

    def figures(self) -> Mapping[str, float]:
        """Every number that the engine tells of itself; none where it does not answer at once."""
        try:
            return self._manner.figures(partial(self._get, timeout=HEALTH_SECONDS))
        except (ServiceError, ValueError):
            return {}

    def stream(self, model: str, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The answer as it comes; the last piece has `finish`, and the counts are those so far. Closing it stops the
        engine."""
        return self._by_http(model, prompt) if self._trunk is None else self._by_trunk(self._trunk, model, prompt)

    async def _by_trunk(self, port: int, model: str, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """Beside all other streams of this engine, over one connection."""
        asked = await self._put(model, prompt)
        with _broken_off():
            stream = await self._trunk_here(port).ask(asked.verb, msgspec.json.encode(asked.body))
            try:
                while True:
                    told = await stream.told()
                    if told.finish == "error":
                        raise ModelErrorException(told.text, originalStatusCode=500)
                    yield of_told(told)
                    if told.finish is not None:
                        return
            finally:
                stream.close()

    async def _by_http(self, model: str, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """Over a connection of its own, as server-sent events."""
        options = {"include_usage": True, "continuous_usage_stats": True}
        asked = await self._put(model, prompt)
        body = msgspec.json.encode({**asked.body, "stream": True, "stream_options": options})
        lead, held = Lead(asked.lead), None
        found_at = events(self.url, asked.verb, body, self._key, self._timeout, socket=self._socket)
        with _broken_off():
            async with aclosing(found_at) as found:
                async for data in found:
                    event = _read(data)
                    if event.error is not None:
                        raise ModelErrorException(_told({"error": event.error}), originalStatusCode=500)
                    if event.choices:
                        choice = event.choices[0]
                        if choice.finish_reason:
                            held = choice
                        else:
                            piece = choice.piece(event.usage)
                            text = lead.off(piece.text)
                            if text:  # else its counts come again with the next one
                                yield piece if text is piece.text else replace(piece, text=text)
                    elif held is not None and event.usage is not None:
                        yield held.last(lead.off(held.said()) + lead.rest(), event.usage)
                        return
        raise ModelErrorException(UNENDED if held is None else UNCOUNTED, originalStatusCode=500)

    async def _put(self, model: str, prompt: Prompt) -> Question:
        """The prompt as the engine is asked it."""
        if not self._manner.tokenises:
            return self._manner.question(model, prompt, self._tell)
        put = partial(self._manner.question, model, prompt, self._tell)
        return await asyncio.get_running_loop().run_in_executor(self._askers, put)

    def _trunk_here(self, port: int) -> Trunk:
        """The trunk of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._trunks.get(loop)
        if found is None:
            found = self._trunks[loop] = Trunk(urlsplit(self.url).hostname or "", port, self._key, self._timeout)
        return found

    def load_adapter(self, name: str, folder: Path, timeout: float | None = None) -> None:
        """Have the engine serve a PEFT folder under a name."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, timeout)

    def unload_adapter(self, name: str, timeout: float | None = None) -> None:
        """Have the engine forget an adapter."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name}, timeout)

    def _tell(self, path: str) -> bytes:
        """What the engine says of itself; nobody's prompt is to blame if it says nothing."""
        try:
            return self._get(path, TELL_SECONDS)
        except ModelTimeoutException as fault:
            raise ModelNotReadyException(SILENT) from fault

    def _get(self, path: str, timeout: float | None = None) -> bytes:
        return self._answer("GET", path, None, timeout)

    def _post(self, path: str, document: Mapping[str, Any], timeout: float | None = None) -> bytes:
        return self._answer("POST", path, msgspec.json.encode(document), timeout)

    def _answer(self, method: str, path: str, content: bytes | None, timeout: float | None) -> bytes:
        """The answer's body. timeout: longest silence in seconds, where it is not the line's own."""
        patience = httpx.Timeout(self._timeout if timeout is None else timeout, connect=CONNECT_SECONDS)
        headers = JSON if content is not None else {}
        try:
            response = self._client.request(method, path, content=content, headers=headers, timeout=patience)
        except httpx.HTTPError as fault:
            raise _translated(fault) from fault
        if response.is_error:
            raise refusal(response.status_code, response.content)
        return response.content


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
            about = bool(error.get("prompt_tokens_about"))
            return PromptTooLong(told, error["max_prompt_tokens"], error["prompt_tokens"], about=about)
        return ValidationException(told)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return ThrottlingException("Too many requests, please wait before trying again.")
    return ModelErrorException(told, originalStatusCode=status)


@contextmanager
def _broken_off() -> Iterator[None]:
    """What the ends of a stream mean to our caller."""
    try:
        yield
    except Refused as fault:
        raise refusal(fault.status, fault.body) from fault
    except Unreachable as fault:
        raise ModelNotReadyException(STARTING) from fault
    except Silent as fault:
        raise ModelTimeoutException(TOO_SLOW) from fault
    except Broken as fault:
        raise ModelErrorException(f"{BROKE_OFF}: {fault}") from fault


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
