"""A customization upon a customization: what is trained, and what is delivered, when a job starts from a custom model.

Upon an adapter new factors are trained while the parent's act beside them, frozen and unmerged; what is delivered is
both as one ordinary adapter on the original base. Full training starts from the base with the parent merged in. Upon a
whole model the result is a whole model, whatever the method. So every result stands alone: its parent may be deleted.
Knows models and adapters; nothing of datasets, job directories or who the parent was.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outcrop import weights
from outcrop.lora import Adapters, LoraAdapter, merge

ADAPTER: Final = "trained"
PARENT: Final = "parent"


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """What a job's weights come from besides the base that is loaded."""

    parent: LoraAdapter | None = None
    """The adapter that the job starts from: it acts all the time and is never changed."""
    whole: bool = False
    """The base that is loaded is itself a custom model."""

    @classmethod
    def read(cls, parent: Path | None, whole: bool = False) -> "Descent":
        """Read the parent's PEFT folder where there is one; raises OutcropError for one that cannot be carried out."""
        return cls(LoraAdapter.read(parent) if parent is not None else None, whole)

    def adapt(self, model: Any, rank: int, alpha: float, seed: int) -> LoraAdapter:
        """Put fresh factors on a frozen model, upon the parent's; they act together from now on."""
        adapters = Adapters(model)
        fresh = LoraAdapter.new(model, rank, alpha, self._draw(seed))
        adapters.attach(ADAPTER, fresh)
        if self.parent is None:
            adapters.act(ADAPTER)
        else:
            adapters.attach(PARENT, self.parent)
            adapters.act(PARENT, ADAPTER)
        return fresh

    def open(self, model: Any) -> None:
        """Make all weights of a float32 model trainable, the parent merged into them."""
        if self.parent is not None:
            merge(model, self.parent)
        model.requires_grad_(True)

    def size(self) -> int:
        """How many numbers act beside the model's own while factors are trained."""
        return self.parent.size() if self.parent is not None else 0

    def result_bytes(self, model: Any, trained: LoraAdapter | None, base: Path) -> int:
        """How many bytes of weights `save` will write."""
        if trained is not None and not self.whole:
            return 4 * (trained if self.parent is None else trained.over(self.parent)).size()
        return weights.stored_dtype(base).itemsize * weights.count_parameters(model)

    def save(self, model: Any, trained: LoraAdapter | None, folder: Path, base: Path, base_name: str) -> None:
        """Write the result: PEFT's layout for an adapter, Hugging Face's (in the base's dtype) for a whole model.

        `trained` is what `adapt` gave, None after `open`; `base` is the folder that was loaded. The model is spent.
        """
        if trained is not None and not self.whole:
            result = trained if self.parent is None else trained.over(self.parent)
            result.write(folder, base_name)
            return
        stored = weights.stored_dtype(base)
        if trained is not None:
            if model.dtype != stored:
                # Training computed in a narrower type: what is added to are the numbers that are stored. Those that
                # trained give their memory back first.
                model.to("meta")
                model = weights.load_model(base, stored)
            merge(model, trained)
        weights.save_model(model, folder, base, stored)

    def _draw(self, seed: int) -> int:
        """The seed of the fresh factors: another one each generation, as the same A twice would look where the parent
        has looked already. A stack's rank grows with every generation, so it tells them apart."""
        if self.parent is None:
            return seed
        return int.from_bytes(hashlib.sha256(f"{seed}:{self.parent.rank}".encode()).digest()[:4])


ALONE: Final = Descent()
"""Of a job that starts from the foundation weights."""
