"""The text engine: a queue of requests, one thread that steps every running sequence, and the adapters of one base.

One `step()` tells everything: schedule, run, sample, emit. Each sequence has its own key-value cache and its own turn
in a step. Knows transformers' models, our tokens and adapters; nothing of HTTP or of who asks.
"""

import inspect
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from outcrop.datasets.tokens import Encoder
from outcrop.engines.detokenize import TextStream
from outcrop.engines.likelihood import Likelihoods
from outcrop.engines.sampling import NoFiniteLogits, Sampler
from outcrop.errors import OutcropError
from outcrop.lora import Adapters, LoraAdapter
from outcrop.records import Prompt
from outcrop.weights import context_length, count_parameters

PREFILL_TOKENS: Final = 512
"""Prompt tokens that one step reads for one sequence: a long prompt neither stops others nor outlives its caller."""


class Overloaded(OutcropError):
    """More requests wait than the engine keeps."""


class UnknownModel(OutcropError):
    """No base and no adapter of that name."""


class EmptyPrompt(OutcropError):
    """There is nothing to go on from."""


class PromptTooLong(OutcropError):
    """The prompt leaves no room for one token of an answer."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"Too many input tokens. Max input tokens: {limit}, request input token count: {tokens}")
        self.tokens, self.limit = tokens, limit


Likelihood = tuple[int, str, float]
"""A token, its text, and the natural log of its probability."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gives to one request: text, and at the end why it ended."""

    text: str
    finish: str | None = None
    """None while more comes; then stop, length or error."""
    stop_reason: str | None = None
    """The stop string that ended it; None at the end of the text."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str | None = None
    """For error: what a person should know."""
    prompt_likelihoods: tuple[Likelihood, ...] = ()
    likelihoods: tuple[Likelihood, ...] = ()
    """Of the last output, where they were asked for."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One request on its way: what it asked, and how far it is."""

    model: str | None
    """The adapter's name; None for the base alone."""
    prompt: list[int]
    max_tokens: int
    sampler: Sampler
    text: TextStream
    emit: Callable[[Output], None]
    likelihoods: Likelihoods | None = None
    cache: Any = None
    read: int = 0
    """Prompt tokens that the cache holds."""
    last: int = -1
    """The token sampled last, which the cache does not hold yet."""
    made: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask for its end; its slot is free within one step and nothing more is emitted."""
        self.cancelled.set()


class TextEngine:
    """One base model, its adapters and the requests upon them.

    name: what the base is called; running: sequences that take turns; waiting: requests kept beyond those.
    Everything that touches the model happens on the engine's own thread; the public verbs may be called from any.
    """

    def __init__(self, model: Any, encoder: Encoder, *, name: str, running: int = 16, waiting: int = 256) -> None:
        self.name = name
        self.context = context_length(model.config) or sys.maxsize
        self.parameters = count_parameters(model)
        self._model, self._encoder = model, encoder
        self._adapters = Adapters(model)
        self._names: frozenset[str] = frozenset()
        self._device = next(model.parameters()).device
        self._ends = _end_tokens(model, encoder)
        # Logits of a whole prompt would be its length times the vocabulary: only the last row is ever read.
        takes_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._only_last = {"logits_to_keep": 1} if takes_keep else {}
        self._most_running, self._most_waiting = running, waiting
        self._running: list[Sequence] = []
        self._inbox: deque[Sequence] = deque()
        self._orders: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._bell = threading.Condition()
        self._ended = False

    # ------------------------------------------------------------------------------------------- from any thread

    @property
    def adapters(self) -> frozenset[str]:
        """Names of the adapters that can be asked now."""
        return self._names

    @property
    def load(self) -> int:
        """Sequences that run or wait."""
        return len(self._running) + len(self._inbox)

    def submit(self, model: str, prompt: Prompt, emit: Callable[[Output], None]) -> Sequence:
        """Queue a request; `emit` is called on the engine's thread until an output has `finish`.

        Raises EmptyPrompt, PromptTooLong, Overloaded, and what tokens() raises.
        """
        tokens = self.tokens(model, prompt)
        if not tokens:
            raise EmptyPrompt("the prompt has no tokens, and this model no token that begins a text")
        if len(tokens) >= self.context:
            tokens = self._cut(tokens, prompt)
        sequence = Sequence(
            model=None if model == self.name else model,
            prompt=tokens,
            max_tokens=min(prompt.max_tokens, self.context - len(tokens)),
            sampler=Sampler(prompt.temperature, prompt.top_p, prompt.top_k, prompt.seed, self._device),
            text=TextStream(self._decode, prompt.stop, self._lead(prompt)),
            emit=emit,
            likelihoods=Likelihoods(of_prompt=prompt.likelihoods == "ALL") if prompt.likelihoods else None,
        )
        with self._bell:
            waiting = sum(not other.cancelled.is_set() for other in self._inbox)
            if waiting >= self._most_waiting:
                raise Overloaded(f"{waiting} requests already wait for the engine of {self.name}")
            self._inbox.append(sequence)
            self._bell.notify()
        return sequence

    def tokens(self, model: str, prompt: Prompt) -> list[int]:
        """What the model reads of a prompt, whole; raises UnknownModel, and OutcropError where the weights' chat
        template refuses the conversation."""
        if model != self.name and model not in self._names:
            raise UnknownModel(f"The model `{model}` does not exist.")
        if prompt.turns:
            return self._encoder.dialogue(prompt.turns, prompt.system)
        return self._encoder.prompts([prompt.text])[0]

    def load_adapter(self, name: str, folder: Path) -> Future[None]:
        """Read a PEFT folder and serve it under a name, in place of an earlier one of that name.

        The future raises OutcropError when the adapter does not fit.
        """
        adapter = LoraAdapter.read(folder)

        def attach() -> None:
            self._abandon(name)
            self._adapters.attach(name, adapter)
            self._names = self._adapters.names()

        return self._order(attach)

    def unload_adapter(self, name: str) -> Future[None]:
        """Take an adapter away; requests that still use it end with an error."""

        def detach() -> None:
            self._abandon(name)
            self._adapters.detach(name)
            self._names = self._adapters.names()

        return self._order(detach)

    def end(self) -> None:
        """Let `run()` return after its present step."""
        with self._bell:
            self._ended = True
            self._bell.notify()

    # --------------------------------------------------------------------------------------- the engine's own thread

    def run(self) -> None:
        """Step until `end()`; sleeps while nothing is asked."""
        while True:
            with self._bell:
                self._bell.wait_for(lambda: self._ended or self._orders or self._inbox or self._running)
                if self._ended:
                    return
                orders, self._orders = self._orders, deque()
            for order, done in orders:
                _carry_out(order, done)
            self.step()

    def step(self) -> None:
        """Give every running sequence one turn: read a part of its prompt, or make one token."""
        for sequence in self._schedule():
            try:
                logits = self._forward(sequence)
                if logits is not None:
                    token = sequence.sampler.choose(logits)
                    if sequence.likelihoods is not None and token not in self._ends:
                        sequence.likelihoods.add(logits, token)
                    self._emit(sequence, token)
            except (RuntimeError, NoFiniteLogits) as fault:
                # Out of memory and its like end one request, not the engine; anything else is a fault of ours.
                self._finish(sequence, Output("", finish="error", failure=f"{type(fault).__name__}: {fault}"))

    def _schedule(self) -> list[Sequence]:
        """Drop what was cancelled, take in what fits, first come first served."""
        self._running = [sequence for sequence in self._running if not sequence.cancelled.is_set()]
        with self._bell:
            while self._inbox and len(self._running) < self._most_running:
                sequence = self._inbox.popleft()
                if not sequence.cancelled.is_set():
                    self._running.append(sequence)
        return list(self._running)

    def _forward(self, sequence: Sequence) -> Tensor | None:
        """Run the sequence's next tokens through the model: logits of the last one, None within the prompt."""
        from transformers import DynamicCache

        if sequence.cache is None:
            sequence.cache = DynamicCache(config=self._model.config)
        if sequence.read < len(sequence.prompt):
            tokens = sequence.prompt[sequence.read : sequence.read + PREFILL_TOKENS]
            following = sequence.prompt[sequence.read + 1 : sequence.read + len(tokens) + 1]
            sequence.read += len(tokens)
        else:
            tokens, following = [sequence.last], []
        looked_at = sequence.likelihoods if sequence.likelihoods and sequence.likelihoods.of_prompt else None
        with torch.inference_mode(), self._adapters.active(sequence.model):
            out = self._model(
                input_ids=torch.tensor([tokens], device=self._device),
                past_key_values=sequence.cache,
                use_cache=True,
                **({} if looked_at else self._only_last),
            )
            if looked_at is not None:
                looked_at.read(out.logits[0], following)
        logits: Tensor = out.logits[0, -1]
        return None if sequence.read < len(sequence.prompt) else logits

    def _emit(self, sequence: Sequence, token: int) -> None:
        """Tell the request what this token adds, and whether it was the last."""
        sequence.last = token
        sequence.made += 1
        ended = token in self._ends
        text = "" if ended else sequence.text.push(token)
        stopped_by = sequence.text.stopped_by
        if ended or stopped_by or sequence.made >= sequence.max_tokens:
            text += sequence.text.finish()
            stopped_by = sequence.text.stopped_by
            finish = "stop" if ended or stopped_by else "length"
            self._finish(sequence, self._output(sequence, text, finish, stopped_by))
        elif text:
            sequence.emit(self._output(sequence, text, None, None))

    def _output(self, sequence: Sequence, text: str, finish: str | None, stop_reason: str | None) -> Output:
        found = sequence.likelihoods if finish else None
        return Output(
            text,
            finish,
            stop_reason,
            len(sequence.prompt),
            sequence.made,
            prompt_likelihoods=self._spelled(found.prompt) if found else (),
            likelihoods=self._spelled(found.answer) if found else (),
        )

    def _spelled(self, likelihoods: list[tuple[int, float]]) -> tuple[Likelihood, ...]:
        return tuple((token, self._decode([token]), log) for token, log in likelihoods)

    def _finish(self, sequence: Sequence, last: Output) -> None:
        self._running.remove(sequence)
        if not sequence.cancelled.is_set():
            sequence.emit(last)

    def _abandon(self, adapter: str) -> None:
        """End every request upon an adapter that goes away."""
        with self._bell:
            gone = [sequence for sequence in (*self._running, *self._inbox) if sequence.model == adapter]
            self._running = [sequence for sequence in self._running if sequence.model != adapter]
            self._inbox = deque(sequence for sequence in self._inbox if sequence.model != adapter)
        for sequence in gone:
            sequence.emit(Output("", finish="error", failure=f"the adapter {adapter} was taken away"))

    # ------------------------------------------------------------------------------------------------------- parts

    def _order(self, action: Callable[[], None]) -> Future[None]:
        """Have an action done between two steps."""
        done: Future[None] = Future()
        with self._bell:
            self._orders.append((action, done))
            self._bell.notify()
        return done

    def _lead(self, prompt: Prompt) -> str:
        """White space that the weights were taught to write before an answer, and that is no part of it."""
        continued = not prompt.turns or prompt.turns[-1].role == "assistant"
        return "" if continued else self._encoder.chat.lead

    def _cut(self, tokens: list[int], prompt: Prompt) -> list[int]:
        """A too long prompt without the end that its caller gives up, so that the answer has its room."""
        if prompt.truncate is None:
            raise PromptTooLong(len(tokens), self.context - 1)
        room = max(self.context - prompt.max_tokens, len(self._encoder.start) + 1)
        if prompt.truncate == "END":
            return tokens[:room]
        # What the tokenizer puts before every text stays there.
        start = tokens[: len(self._encoder.start)]
        return [*start, *tokens[len(tokens) - room + len(start) :]]

    def _decode(self, tokens: Any) -> str:
        text: str = self._encoder.tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _carry_out(order: Callable[[], None], done: Future[None]) -> None:
    try:
        order()
    except (OutcropError, RuntimeError) as fault:
        done.set_exception(fault)
    else:
        done.set_result(None)


def _end_tokens(model: Any, encoder: Encoder) -> frozenset[int]:
    """Every token that ends a text: what generation_config names (one or several), and what training teaches."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [] if named is None else [named]
    return frozenset((encoder.end, *ends))
