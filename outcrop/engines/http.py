"""The engine's OpenAI HTTP verbs, and vLLM's own: JSON and event streams over one text engine.

POST /v1/completions, /v1/chat/completions, /tokenize, /v1/load_lora_adapter, /v1/unload_lora_adapter; GET /v1/models,
/health. A caller that goes away drops its sequence. Knows the engine's public verbs; nothing of models or tensors.
"""

import asyncio
import hmac
import secrets
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from outcrop.engines.post import Mail, Post
from outcrop.engines.refusals import Refusal, fault, refusal
from outcrop.engines.requests import GenerateRequest, LoadRequest, UnloadRequest
from outcrop.engines.sequence import Output, Sequence, UnknownModel
from outcrop.engines.text import TextEngine
from outcrop.errors import OutcropError

CLIENT_GONE: Final = 499
"""nginx's status for a caller that did not wait; nobody reads it."""


Outputs = asyncio.Queue[Output | None]
"""Of one sequence; None: its caller is gone."""


def refused(refusal: Refusal) -> JSONResponse:
    """A refusal as an HTTP answer."""
    status, document = refusal
    return JSONResponse(document, status)


class EngineHttp:
    """The ASGI application over one engine. key: bearer key that every request but /health must show; empty: none."""

    def __init__(self, engine: TextEngine, post: Post, key: str = "") -> None:
        self._engine, self._post, self._key = engine, post, key
        self._verbs: dict[tuple[str, str], Callable[[Request], Awaitable[Any]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/completions"): self._complete,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/v1/load_lora_adapter"): self._load,
            ("POST", "/v1/unload_lora_adapter"): self._unload,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
            await response(scope, receive, send)
        except Exception:
            # The server underneath answers 500 and keeps the reason to itself: the log must have it.
            traceback.print_exc()
            raise

    async def _answer(self, request: Request) -> Any:
        verb = self._verbs.get((request.method, request.url.path))
        if verb is None:
            return refused(fault(404, f"no such verb: {request.method} {request.url.path}"))
        if request.url.path != "/health" and not self._admitted(request):
            return refused(fault(401, "the engine's key is missing or wrong"))
        try:
            return await verb(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except (OutcropError, msgspec.DecodeError) as error:
            return refused(refusal(error))

    def _admitted(self, request: Request) -> bool:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        return not self._key or hmac.compare_digest(shown.encode(), self._key.encode())

    async def _health(self, _request: Request) -> Response:
        return JSONResponse(dict(self._engine.figures))

    async def _models(self, _request: Request) -> Response:
        engine = self._engine
        names = [engine.name, *sorted(engine.adapters)]
        rows = [{"id": name, "object": "model", "max_model_len": engine.context} for name in names]
        return JSONResponse({"object": "list", "data": rows})

    async def _load(self, request: Request) -> Response:
        asked = msgspec.json.decode(await request.body(), type=LoadRequest)
        done = await asyncio.to_thread(self._engine.load_adapter, asked.lora_name, Path(asked.lora_path))
        await asyncio.wrap_future(done)
        return JSONResponse({"loaded": asked.lora_name})

    async def _unload(self, request: Request) -> Response:
        asked = msgspec.json.decode(await request.body(), type=UnloadRequest)
        if asked.lora_name not in self._engine.adapters:
            raise UnknownModel(f"The adapter `{asked.lora_name}` is not loaded.")
        await asyncio.wrap_future(self._engine.unload_adapter(asked.lora_name))
        return JSONResponse({"unloaded": asked.lora_name})

    async def _complete(self, request: Request) -> Any:
        return await self._generate(request, chat=False)

    async def _chat(self, request: Request) -> Any:
        return await self._generate(request, chat=True)

    async def _tokenize(self, request: Request) -> Response:
        asked = msgspec.json.decode(await request.body(), type=GenerateRequest)
        prompt = asked.to_prompt(self._engine.context, chat=asked.messages is not None)
        tokens = await asyncio.to_thread(self._engine.tokens, asked.model, prompt)
        return JSONResponse({"count": len(tokens), "max_model_len": self._engine.context, "tokens": tokens})

    async def _generate(self, request: Request, *, chat: bool) -> Any:
        asked = msgspec.json.decode(await request.body(), type=GenerateRequest)
        prompt = asked.to_prompt(self._engine.context, chat=chat)
        outputs: Outputs = asyncio.Queue()
        # A long prompt takes milliseconds to tokenise: other streams go on meanwhile.
        slot = self._post.slot(deliver, outputs)
        sequence = await asyncio.to_thread(self._engine.submit, asked.model, prompt, slot)
        answer = Answer(asked, sequence, outputs)
        return answer if asked.stream else await answer.whole(request)


def deliver(mails: Iterable[Mail]) -> None:
    """Put each into its queue."""
    for queue, output in mails:
        queue.put_nowait(output)


class Answer:
    """One completion on its way to its caller."""

    def __init__(self, asked: GenerateRequest, sequence: Sequence, outputs: Outputs) -> None:
        self._asked, self._sequence, self._queue = asked, sequence, outputs
        self._id = f"{'cmpl' if asked.messages is None else 'chatcmpl'}-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self, request: Request) -> Response:
        """The answer in one piece; ends the sequence when the caller goes away."""
        gone = asyncio.ensure_future(_gone(request.receive))
        try:
            async with aclosing(self._outputs(gone)) as outputs:
                pieces = [output async for output in outputs]
        finally:
            gone.cancel()
        if not pieces or pieces[-1].finish is None:
            return Response(status_code=CLIENT_GONE)
        last = pieces[-1]
        if last.failure:
            return refused(fault(500, last.failure))
        text = "".join(piece.text for piece in pieces)
        answer = self._event(text, last)
        answer["choices"][0] |= self._likelihoods(last)
        return JSONResponse({**answer, "usage": _usage(last)})

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """The answer as server-sent events, ended by [DONE]."""
        gone = asyncio.ensure_future(_gone(receive))
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with aclosing(self._outputs(gone)) as outputs:
                async for output in outputs:
                    body = b"".join(_sse(event) for event in self._events(output))
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        finally:
            gone.cancel()

    async def _outputs(self, gone: "asyncio.Future[None]") -> AsyncGenerator[Output, None]:
        """Outputs until the last one or until the caller is gone; whoever closes this drops the sequence."""
        gone.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while (output := await self._queue.get()) is not None:
                yield output
                if output.finish:
                    return
        finally:
            self._sequence.cancel()

    def _events(self, output: Output) -> list[dict[str, Any]]:
        if output.failure:
            return [{"error": {"message": output.failure, "type": "internal_error", "code": 500}}]
        event = self._event(output.text, output)
        options = self._asked.stream_options
        if options is None or not options.include_usage:
            return [event]
        if options.continuous_usage_stats:
            event["usage"] = _usage(output)
        if output.finish is None:
            return [event]
        return [event, {**self._head(), "choices": [], "usage": _usage(output)}]

    def _event(self, text: str, output: Output) -> dict[str, Any]:
        choice = {
            "index": 0,
            **self._said(text),
            "logprobs": None,
            "finish_reason": output.finish,
            "stop_reason": output.stop_reason,
        }
        return {**self._head(), "choices": [choice]}

    def _likelihoods(self, last: Output) -> dict[str, Any]:
        """logprobs as OpenAI has them, prompt_logprobs as vLLM: a token's number to what is known of it."""
        asked, found = self._asked, last.likelihoods
        told: dict[str, Any] = {}
        if asked.logprobs is not None:
            tokens, logs = [text for _, text, _ in found], [log for _, _, log in found]
            told["logprobs"] = {"tokens": tokens, "token_logprobs": logs, "top_logprobs": None, "text_offset": None}
        if asked.prompt_logprobs is not None:
            rows = [
                {str(token): {"logprob": log, "decoded_token": text}} for token, text, log in last.prompt_likelihoods
            ]
            told["prompt_logprobs"] = [None, *rows]
        return told

    def _said(self, text: str) -> dict[str, Any]:
        if self._asked.messages is None:
            return {"text": text}
        return {"delta" if self._asked.stream else "message": {"role": "assistant", "content": text}}

    def _head(self) -> dict[str, Any]:
        kind = "text_completion"
        if self._asked.messages is not None:
            kind = "chat.completion.chunk" if self._asked.stream else "chat.completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": self._asked.model}


async def _gone(receive: Receive) -> None:
    """Return when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _usage(output: Output) -> dict[str, int]:
    prompt, completion = output.prompt_tokens, output.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _sse(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
