"""The text engine: a queue of requests, one thread that steps all of them at once, and the adapters of one base.

One `step()` tells everything: take in, plan, run, sample, emit. Knows our tokens, the scheduler and a model that runs
batches; nothing of HTTP or of who asks.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from outcrop.datasets.reading import Reader
from outcrop.datasets.tokens import Encoder
from outcrop.engines import models
from outcrop.engines.batch import Batch, Part
from outcrop.engines.cache import Cache, size_for
from outcrop.engines.detokenize import TextStream
from outcrop.engines.likelihood import Likelihoods
from outcrop.engines.loaded import Loaded
from outcrop.engines.sampling import Sampler, choose_all
from outcrop.engines.scheduler import Scheduler
from outcrop.engines.sequence import (
    Likelihood,
    Output,
    Overloaded,
    Sequence,
    UnknownModel,
)
from outcrop.errors import OutcropError
from outcrop.lora import LoraAdapter
from outcrop.records import Prompt
from outcrop.weights import context_length

STEP_TOKENS: Final = {"cpu": 256, "cuda": 2048}
"""Rows of one step, by device: a step of prompts alone takes some 30 ms for 40M parameters on one core, and twice as
many rows take twice as long."""


class TextEngine:
    """One base model, its adapters and the requests upon them.

    name: what the base is called; running: sequences that run at once; waiting: requests kept beyond those;
    step_tokens: rows that one step reads, 0 by the device; cache_bytes: of keys and values, None by what is free;
    way: how the model is run, see models.WAYS. Everything that touches the model happens on the engine's own thread;
    the public verbs may be called from any.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        *,
        name: str,
        running: int = 16,
        waiting: int = 256,
        step_tokens: int = 0,
        cache_bytes: int | None = None,
        way: str = "auto",
    ) -> None:
        self.name = name
        self.after_step: Callable[[], None] = lambda: None
        """Called on the engine's thread when its requests have been told what a pass gave them."""
        self._encoder = encoder
        self._ends = _end_tokens(model, encoder)
        context = context_length(model.config) or sys.maxsize
        self._model = models.choose(model, way)
        self.way, self.why = self._model.way, self._model.why
        kind, device = self._model.dtype, self._model.device
        size = size_for(self._model.shapes, kind, device, running * min(context, sys.maxsize // running), cache_bytes)
        self.context = min(context, size)
        self._reader = Reader(encoder, self.context)
        self._cache = Cache(size, self._model.shapes, kind, device)
        together = self._model.together
        step_tokens = step_tokens or STEP_TOKENS.get(device.type, STEP_TOKENS["cpu"])
        # Not every state-space model goes on from its state by more than one token: prompts are read whole there.
        self._scheduler = Scheduler(
            self._cache, running=running, step_tokens=step_tokens if together else sys.maxsize, share=together
        )
        self._most_waiting = waiting
        self._loaded: dict[str, Loaded] = {}
        self._inbox: deque[Sequence] = deque()
        self._orders: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._bell = threading.Condition()
        self._ended = False

    # ------------------------------------------------------------------------------------------- from any thread

    @property
    def adapters(self) -> frozenset[str]:
        """Names of the adapters that can be asked now."""
        return frozenset(self._loaded)

    @property
    def load(self) -> int:
        """Sequences that run or wait."""
        return len(self._scheduler.running) + len(self._scheduler.waiting) + len(self._inbox)

    @property
    def figures(self) -> Mapping[str, int]:
        """What /health tells, in numbers: sequences now, tokens of the cache now, and counts since the start."""
        scheduler, cache = self._scheduler, self._cache
        return {
            "load": self.load,
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting) + len(self._inbox),
            "preempted": scheduler.preempted,
            "adapters": len(self._loaded),
            "cache_tokens": cache.size,
            "cache_tokens_held": cache.held,
            "cache_tokens_remembered": cache.remembered,
            "cache_evictions": cache.figures.evicted,
            "prefix_hits": cache.figures.prefix_hits,
            "prefix_tokens": cache.figures.prefix_tokens,
        }

    def submit(self, model: str, prompt: Prompt, emit: Callable[[Output], None]) -> Sequence:
        """Queue a request; `emit` is called on the engine's thread until an output has `finish`.

        Raises EmptyPrompt, PromptTooLong, Overloaded, and what tokens() raises.
        """
        self._require(model)
        tokens = self._reader.fit(prompt)
        sequence = Sequence(
            model=None if model == self.name else model,
            prompt=tokens,
            max_tokens=min(prompt.max_tokens, self.context - len(tokens)),
            sampler=Sampler(prompt.temperature, prompt.top_p, prompt.top_k, prompt.seed),
            text=TextStream(self._decode, prompt.stop, self._lead(prompt)),
            emit=emit,
            likelihoods=Likelihoods(of_prompt=prompt.likelihoods == "ALL") if prompt.likelihoods else None,
        )
        with self._bell:
            kept = (*self._scheduler.waiting, *self._inbox)
            waiting = sum(not other.cancelled.is_set() for other in kept)
            if waiting >= self._most_waiting:
                raise Overloaded(f"{waiting} requests already wait for the engine of {self.name}")
            self._inbox.append(sequence)
            self._bell.notify()
        return sequence

    def tokens(self, model: str, prompt: Prompt) -> list[int]:
        """What the model reads of a prompt, whole; raises UnknownModel, PromptTooLong for one that no context could
        hold, and OutcropError where the weights' chat template refuses the conversation."""
        self._require(model)
        return self._reader.bounded(prompt)

    def load_adapter(self, name: str, folder: Path) -> Future[None]:
        """Read a PEFT folder and serve it under a name, in place of an earlier one of that name.

        The future raises OutcropError when the adapter does not fit.
        """
        adapter = LoraAdapter.read(folder)

        def attach() -> None:
            loaded = self._model.gains.lay_out(name, adapter)
            self._abandon(name)
            self._loaded = {**self._loaded, name: loaded}

        return self._order(attach)

    def unload_adapter(self, name: str) -> Future[None]:
        """Take an adapter away; requests that still use it end with an error."""
        return self._order(lambda: self._abandon(name))

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
                self._bell.wait_for(lambda: self._ended or self._orders or self.load)
                if self._ended:
                    return
                orders, self._orders = self._orders, deque()
            for order, done in orders:
                _carry_out(order, done)
            self.step()

    def step(self) -> None:
        """Give every running sequence one turn, all in one pass: read a part of its prompt, or make one token."""
        self._take_in()
        parts = self._scheduler.plan()
        if self._model.together and parts:
            self._run(parts)
        else:
            for sequence, part in parts.items():
                self._run({sequence: part})
                self.after_step()
        self.after_step()

    def _take_in(self) -> None:
        """Drop what was cancelled, and let the scheduler know what is new."""
        known = (*self._scheduler.running, *self._scheduler.waiting)
        self._scheduler.drop([sequence for sequence in known if sequence.cancelled.is_set()])
        with self._bell:
            fresh, self._inbox = self._inbox, deque()
            for sequence in fresh:
                if sequence.model is not None:
                    sequence.adapter = self._loaded.get(sequence.model)
            gone = [sequence for sequence in fresh if sequence.model is not None and sequence.adapter is None]
            self._scheduler.add(
                sequence for sequence in fresh if sequence not in gone and not sequence.cancelled.is_set()
            )
        self._tell_gone(gone)

    def _run(self, parts: dict[Sequence, Part]) -> None:
        """One pass. Where it fails each sequence is tried alone, so that a fault ends the one that brings it."""
        try:
            batch = Batch.of(list(parts.values()), self._model.device)
            with torch.inference_mode():
                logits = self._model.run(batch, self._cache)
        except torch.AcceleratorError:
            # The device is lost to this process: whoever watches it starts another.
            raise
        except (RuntimeError, MemoryError) as fault:  # torch says it by the one, Python by the other
            # Out of memory and its like end one request, not the engine; anything else is a fault of ours.
            if len(parts) == 1:
                self._finish(next(iter(parts)), _failed(fault))
                return
            for sequence, part in parts.items():
                self._run({sequence: part})
            return
        self._scheduler.read(parts, parts)
        sequences = {id(part): sequence for sequence, part in parts.items()}
        self._answer([(sequences[id(part)], part) for part in batch.parts], logits)

    def _answer(self, parts: list[tuple[Sequence, Part]], logits: Tensor) -> None:
        """From the wanted rows' logits to tokens, and what they mean for their sequences."""
        due: list[tuple[Sequence, int]] = []
        row = 0
        for sequence, part in parts:
            if sequence.likelihoods is not None and sequence.looks_at_prompt:
                following = sequence.ids[part.start + 1 : min(part.end + 1, len(sequence.prompt))]
                sequence.likelihoods.read(logits[row : row + part.wanted], following)
            row += part.wanted
            if part.wanted and part.end == len(sequence.ids):
                due.append((sequence, row - 1))
        if not due:
            return
        rows = logits if len(due) == logits.shape[0] else logits[[place for _, place in due]]
        for (sequence, place), token in zip(due, choose_all([one.sampler for one, _ in due], rows), strict=True):
            if token is None:
                self._finish(sequence, _failed(ArithmeticError("the model gave no finite logits")))
                continue
            if sequence.likelihoods is not None and token not in self._ends:
                sequence.likelihoods.add(logits[place], token)
            self._emit(sequence, token)

    def _emit(self, sequence: Sequence, token: int) -> None:
        """Tell the request what this token adds, and whether it was the last."""
        sequence.ids.append(token)
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
        self._scheduler.drop([sequence])
        if not sequence.cancelled.is_set():
            sequence.emit(last)

    def _abandon(self, adapter: str) -> None:
        """Forget an adapter, and end every request upon it."""
        known = (*self._scheduler.running, *self._scheduler.waiting)
        gone = [sequence for sequence in known if sequence.model == adapter]
        self._scheduler.drop(gone)
        with self._bell:
            gone += [sequence for sequence in self._inbox if sequence.model == adapter]
            self._inbox = deque(sequence for sequence in self._inbox if sequence.model != adapter)
        loaded = self._loaded.get(adapter)
        self._loaded = {name: one for name, one in self._loaded.items() if name != adapter}
        if loaded is not None:
            self._cache.forget(loaded.number)
            self._model.gains.forget(loaded)
        self._tell_gone(gone)

    def _tell_gone(self, gone: list[Sequence]) -> None:
        for sequence in gone:
            sequence.emit(Output("", finish="error", failure=f"the adapter {sequence.model} was taken away"))

    # ------------------------------------------------------------------------------------------------------- parts

    def _order(self, action: Callable[[], None]) -> Future[None]:
        """Have an action done between two steps."""
        done: Future[None] = Future()
        with self._bell:
            self._orders.append((action, done))
            self._bell.notify()
        return done

    def _require(self, model: str) -> None:
        if model != self.name and model not in self._loaded:
            raise UnknownModel(f"The model `{model}` does not exist.")

    def _lead(self, prompt: Prompt) -> str:
        """White space that the weights were taught to write before an answer, and that is no part of it."""
        continued = not prompt.turns or prompt.turns[-1].role == "assistant"
        return "" if continued else self._encoder.chat.lead

    def _decode(self, tokens: Any) -> str:
        text: str = self._encoder.tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _failed(fault: Exception) -> Output:
    # Python's own want of memory says nothing more.
    return Output("", finish="error", failure=f"{type(fault).__name__}: {fault}".removesuffix(": "))


def _carry_out(order: Callable[[], None], done: Future[None]) -> None:
    try:
        order()
    except (OutcropError, RuntimeError, MemoryError) as fault:
        done.set_exception(fault)
    else:
        done.set_result(None)


def _end_tokens(model: Any, encoder: Encoder) -> frozenset[int]:
    """Every token that ends a text: what generation_config names (one or several), and what training teaches."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [] if named is None else [named]
    return frozenset((encoder.end, *ends))
