"""Who reads how much in the next step: the shortest rest first, a budget of tokens a step, room in the cache.

Answers go on first, one token each; what is left of the budget reads prompts, so a long one never stalls others. Where
the cache is full the youngest sequence makes way and is read again later. Knows sequences and the cache; no model.
"""

from collections import deque
from collections.abc import Iterable

from outcrop.engines.batch import Part
from outcrop.engines.cache import Cache
from outcrop.engines.sequence import Sequence


class Scheduler:
    """The sequences of one engine, on its own thread.

    running: how many run at once; step_tokens: how many rows one step has at most (but one for each that runs).
    share: beginnings that the cache knows are not read again.
    """

    def __init__(self, cache: Cache, *, running: int, step_tokens: int, share: bool) -> None:
        self._cache, self._most, self._budget, self._share = cache, running, step_tokens, share
        self._steps = 0
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.preempted = 0
        """How often a sequence has made way."""

    def add(self, fresh: Iterable[Sequence]) -> None:
        """These wait from now on."""
        for sequence in fresh:
            sequence.arrived = self._steps
            self.waiting.append(sequence)

    def drop(self, gone: Iterable[Sequence]) -> None:
        """These have ended, whether they ran or waited."""
        for sequence in gone:
            if sequence in self.running:
                self.running.remove(sequence)
                self._leave(sequence)
            elif sequence in self.waiting:
                self.waiting.remove(sequence)

    def plan(self) -> dict[Sequence, Part]:
        """The next step's parts; none where nobody runs or waits."""
        parts: dict[Sequence, Part] = {}
        for sequence in list(self.running):
            if sequence in self.running and self._pending(sequence) == 1 and self._reserve(sequence, parts):
                parts[sequence] = _part(sequence, 1)
        self._steps += 1
        budget = self._budget - len(parts)
        room = True
        for sequence in self._readers(parts):
            if budget <= 0:
                break
            if sequence.holding is None:
                # Who does not fit is not overtaken: room that becomes free would never be enough.
                room = room and len(self.running) < self._most and self._admit(sequence)
                if not room:
                    continue
            budget -= self._read(sequence, budget, parts)
        return parts

    def read(self, parts: Iterable[Sequence], planned: dict[Sequence, Part]) -> None:
        """The step has run: the cache holds what these sequences read."""
        for sequence in parts:
            if sequence.holding is not None:
                sequence.holding.ids.extend(planned[sequence].tokens)

    def _readers(self, parts: dict[Sequence, Part]) -> list[Sequence]:
        """Those with something of a prompt to read, the shortest rest first: so most answers begin soonest.

        A step of waiting counts as a quarter of what a step reads: whoever comes later than four times as many steps
        as a prompt's own reading takes does not overtake it.
        """
        patience = max(1, self._budget // 4)
        reading = [sequence for sequence in self.running if sequence not in parts]
        if len(self.running) < self._most:
            reading += self.waiting
        return sorted(reading, key=lambda one: self._pending(one) + one.arrived * patience)

    def _pending(self, sequence: Sequence) -> int:
        holding = sequence.holding
        return len(sequence.ids) - (len(holding.ids) if holding is not None else 0)

    def _read(self, sequence: Sequence, budget: int, parts: dict[Sequence, Part]) -> int:
        """Let a sequence read more of its prompt; how many tokens it reads."""
        length = min(self._pending(sequence), budget)
        if sequence in parts or length <= 0:
            return 0
        parts[sequence] = _part(sequence, length)
        return length

    def _admit(self, sequence: Sequence) -> bool:
        owner = sequence.adapter.number if sequence.adapter is not None else 0
        share = self._share and not sequence.looks_at_prompt
        sequence.holding = self._cache.open(owner, sequence.ids, share)
        if sequence.holding is None:
            return False
        self.waiting.remove(sequence)
        self.running.append(sequence)
        return True

    def _reserve(self, sequence: Sequence, parts: dict[Sequence, Part]) -> bool:
        """Room for one more token; the youngest make way for it, at last the sequence itself."""
        assert sequence.holding is not None
        while not self._cache.reserve(sequence.holding, len(sequence.ids)):
            youngest = self.running[-1]
            self._preempt(youngest)
            parts.pop(youngest, None)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._leave(sequence)
        if sequence.likelihoods is not None and sequence.looks_at_prompt:
            sequence.likelihoods.prompt.clear()
        # Before all that came since: what it had made once is waited for.
        sequence.arrived = 0
        self.waiting.appendleft(sequence)
        self.preempted += 1

    def _leave(self, sequence: Sequence) -> None:
        if sequence.holding is not None:
            self._cache.close(sequence.holding)
            sequence.holding = None


def _part(sequence: Sequence, length: int) -> Part:
    """The next tokens of a sequence; logits are wanted at its end, and all through a prompt that is looked at."""
    assert sequence.holding is not None
    start = len(sequence.holding.ids)
    tokens = sequence.ids[start : start + length]
    wanted = int(start + length == len(sequence.ids))
    if sequence.looks_at_prompt:
        wanted = length
    return Part(tokens, start, sequence.holding.place, sequence.adapter, wanted, sequence.past)
