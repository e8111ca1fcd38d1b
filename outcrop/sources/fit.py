"""How the largest step of a plan goes into the memory that there is: as it is, with layers computed again, or not.

Decided here once, for the job that trains and for whoever foretells it. Pure arithmetic over what a step needs.
"""

from dataclasses import dataclass
from typing import Final

from outcrop.datasets.packs import TOKEN_BUDGET, Pack, largest, shapes
from outcrop.datasets.plan import Plan
from outcrop.records import TrainSpec
from outcrop.sources.look import Look
from outcrop.sources.memory import Memory
from outcrop.sources.step import Manner, Need, need

DEARER: Final = {"lora": "up to half more computing", "full": "up to a third more computing"}
"""What layers cost that are computed again: a way forward, beside one forward, one back to what came in and, where all
weights learn, one back to them. Head and optimizer are not done again."""

WORTH: Final = 0.9
"""Share of what a step takes that must be enough with layers computed again: else that is time for next to nothing."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What the largest step takes either way, beside what there is."""

    pack: Pack
    step: int
    """Of the plan: the first that has this pack."""
    plain: Need
    again: Need
    """With layers that are computed again on their way back."""
    there: Memory

    @property
    def tight(self) -> bool:
        """Whether the step might not fit as it is, where that can be known."""
        return self.plain.known and self.plain.most > self.there.free

    @property
    def recomputes(self) -> bool:
        """Whether layers are to be computed again."""
        return self.tight and self.again.total <= WORTH * self.plain.total

    @property
    def chosen(self) -> Need:
        """Of the two."""
        return self.again if self.recomputes else self.plain

    @property
    def hopeless(self) -> bool:
        """Whether not even what was chosen can fit."""
        return self.plain.known and self.chosen.least > self.there.free


def fit(spec: TrainSpec, seen: Look, plan: Plan, how: Manner, there: Memory) -> Fit:
    """The decision for a job; there: what its process may have in all."""
    budget, forms = TOKEN_BUDGET["cuda" if how.on_gpu else "cpu"], shapes(plan)

    def needed(pack: Pack, *, again: bool) -> Need:
        return need(seen, spec.method, spec.lora_rank, pack, how, forms, again=again)

    pack, step = largest(plan, budget, lambda one: needed(one, again=False).activations)
    return Fit(pack, step, needed(pack, again=False), needed(pack, again=True), there)
