"""One streamed answer: pieces from an engine become events, and whatever ends it ends the lease and the engine's work.

Knows leases and pieces; what an event says is told by its speaker, in InvokeModel's families or in Converse's words.
"""

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from outcrop.errors import ModelErrorException, ModelStreamErrorException, ServiceError
from outcrop.records import Piece, Prompt
from outcrop.serve.dialects.family import Metrics
from outcrop.serve.lease import Lease
from outcrop.serve.manner import PromptTooLong

CHARACTERS_PER_TOKEN: Final = 4
"""For the estimate that a request is admitted by; what it really used is charged at its end."""

Event = dict[str, Any]


def estimate(prompt: Prompt, generations: int = 1) -> int:
    """Tokens that a request may come to need, prompt and answers together."""
    return _size(prompt) // CHARACTERS_PER_TOKEN + prompt.max_tokens * generations


def milliseconds(start: float) -> int:
    """Whole milliseconds since an earlier reading of the clock."""
    return round((time.perf_counter() - start) * 1000)


@dataclass(slots=True)
class Tally:
    """What one answer has used so far: its prompt is counted once, however many generations it has."""

    prompt_tokens: int = 0
    finished: int = 0
    """Tokens of the generations that are whole."""
    current: int = 0
    """Tokens of the one under way."""
    ends: int = 0
    """Generations that are whole."""

    def add(self, piece: Piece) -> None:
        """Count a piece; engines that count only at the end make about a token a piece."""
        self.prompt_tokens = max(self.prompt_tokens, piece.prompt_tokens)
        self.current = piece.completion_tokens or self.current + 1
        if piece.finish is not None:
            self.finished += piece.completion_tokens
            self.current = 0
            self.ends += 1

    @property
    def completion_tokens(self) -> int:
        """Tokens of all generations so far."""
        return self.finished + self.current


@dataclass(frozen=True, slots=True)
class Script:
    """How a stream is told."""

    events: Callable[[Piece], Sequence[Event]]
    """A piece to its events."""
    ending: Callable[[Sequence[Event], Tally, Metrics], Sequence[Event]]
    """The events of the very last piece to those with the counts and times of the whole."""
    refuse: Callable[[PromptTooLong], ServiceError]
    """What a prompt that is too long is told."""
    generations: int = 1
    frame: Callable[[Event], Event] = lambda event: event
    """An event to what stands in its frame."""


@dataclass(slots=True)
class _State:
    first_byte: int | None = None
    told: bool = False
    tally: Tally = field(default_factory=Tally)
    waiting: deque[Event] = field(default_factory=deque)


class Streamed:
    """The events of one streamed answer.

    An iterator object and not a generator: a generator that was never started runs no `finally` when it is closed, and
    the lease must end then too.
    """

    def __init__(self, lease: Lease, held: ExitStack, prompt: Prompt, script: Script, start: float) -> None:
        """`held` ends the lease; `start` is the clock's reading when the request came."""
        self._lease, self._held, self._prompt, self._script, self._start = lease, held, prompt, script, start
        self._pieces = _generations(lease, prompt, script.generations)
        self._state = _State()

    def __aiter__(self) -> "Streamed":
        return self

    async def __anext__(self) -> Event:
        """The next event."""
        state = self._state
        if state.waiting:
            return state.waiting.popleft()
        try:
            while not state.waiting:
                self._take(await anext(self._pieces))
        except PromptTooLong as fault:
            await self._end(fault)
            raise self._script.refuse(fault) from fault
        except ServiceError as fault:
            await self._end(fault)
            if not state.told or not isinstance(fault, ModelErrorException):
                raise
            raise ModelStreamErrorException(
                fault.message, originalStatusCode=fault.status, originalMessage=fault.message
            ) from fault
        except StopAsyncIteration:
            await self._end(None)
            raise
        except BaseException as fault:
            # An error of ours, which is counted as one, or the caller's task was cancelled: nobody will ask again.
            await self._end(fault)
            raise
        state.told = True
        return state.waiting.popleft()

    def _take(self, piece: Piece) -> None:
        state, script = self._state, self._script
        if state.first_byte is None:
            state.first_byte = milliseconds(self._start)
            self._lease.heard()
        state.tally.add(piece)
        events = script.events(piece)
        if state.tally.ends == script.generations:
            events = script.ending(events, state.tally, Metrics(milliseconds(self._start), state.first_byte))
            self._charge()
        for event in events:
            state.waiting.append(script.frame(event))

    def _charge(self) -> None:
        tally = self._state.tally
        if tally.completion_tokens:
            # An engine that counts at the end only has said nothing of the prompt to a caller who leaves before.
            read = tally.prompt_tokens or _size(self._prompt) // CHARACTERS_PER_TOKEN
            self._lease.charge(read, tally.completion_tokens)

    async def aclose(self) -> None:
        """End the engine's work and the lease; may be called again, and after the end."""
        whole = self._state.tally.ends >= self._script.generations
        await self._end(None if whole else GeneratorExit())

    async def _end(self, fault: BaseException | None) -> None:
        """As aclose; the lease is told what went wrong."""
        try:
            await self._pieces.aclose()
        finally:
            if self._state.tally.ends < self._script.generations:
                self._charge()
            if fault is None:
                self._held.close()
            else:
                self._held.__exit__(type(fault), fault, fault.__traceback__)


def _generations(lease: Lease, prompt: Prompt, number: int) -> AsyncGenerator[Piece, None]:
    """One generation after the other: the engine has one queue, so that side by side would be no sooner done."""
    return lease.line.stream(lease.model, prompt) if number == 1 else _several(lease, prompt, number)


async def _several(lease: Lease, prompt: Prompt, number: int) -> AsyncGenerator[Piece, None]:
    for _ in range(number):
        async with aclosing(lease.line.stream(lease.model, prompt)) as pieces:
            async for piece in pieces:
                yield piece


def _size(prompt: Prompt) -> int:
    return len(prompt.text) + len(prompt.system or "") + sum(len(turn.text) for turn in prompt.turns)
