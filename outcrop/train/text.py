"""Text tuning: what of the loop is particular to decoders. Loads the base, packs a step's examples, scores, saves.

Examples of a step lie end to end in one row; the head and the loss see the rows before labels only. Knows models,
adapters and plans; nothing of job directories, events or S3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outcrop import weights
from outcrop.datasets.packs import TOKEN_BUDGET, Stretch, packs
from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard
from outcrop.lora import LoraAdapter
from outcrop.train import heap
from outcrop.train.chain import ALONE, Descent
from outcrop.train.layout import Layout
from outcrop.train.loop import Tally
from outcrop.train.masters import Masters, can_narrow

SHARED: Final = 16
"""Tokens of a common beginning under which looking after it costs what it spares."""
SPARED: Final = 20
"""Likewise: the part of a row's tokens that must be spared is one in so many."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Segments of examples end to end, ready for the model."""

    ids: Tensor
    """(1, T)."""
    positions: Tensor
    """(1, T): from 0 in each segment."""
    segments: tuple[int, ...]
    """Their lengths; each sees itself only. An example is one, or several (see Shard.segments)."""
    shared: int
    """Tokens that all of them begin with, which lie in front of the row once and are not in those lengths."""
    tokens: int
    """Of the segments, each with all of its beginning."""
    rows: Tensor
    """Places whose next token is a label."""
    targets: Tensor
    """Those labels."""


class TextLearner:
    """A decoder that learns the labels of its plan; a Learner of the loop."""

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        adapter: LoraAdapter | None,
        descent: Descent = ALONE,
        *,
        masters: Masters | None = None,
        token_budget: int | None = None,
    ) -> None:
        """The layout's model carries the adapter already; None: all its weights are trained, or their masters."""
        self.layout, self.model, self.adapter = layout, layout.model, adapter
        self._plan, self._descent, self._masters = plan, descent, masters
        first = next(self.model.parameters())
        self.device, self.dtype = first.device, first.dtype
        self._budget = token_budget or TOKEN_BUDGET[self.device.type]
        if masters is not None:
            self._parameters = masters.parameters
        else:
            self._parameters = adapter.parameters() if adapter is not None else list(self.model.parameters())

    def parameters(self) -> list[nn.Parameter]:
        """See Learner."""
        return self._parameters

    def total_parameters(self) -> int:
        """How many numbers the base and what was added to it hold."""
        added = 0 if self.adapter is None else self.adapter.size() + self._descent.size()
        return weights.count_parameters(self.model) + added

    def result_bytes(self, base: Path) -> int:
        """What `save` will write."""
        return self._descent.result_bytes(self.model, self.adapter, base)

    def learn(self, step: int) -> Tally:
        """See Learner; segments of one length go together, which changes the layout and not the loss."""
        self._settle()
        shard = self._plan.train
        batches = list(self._batches(shard, self._plan.examples(step)))
        scored = sum(len(batch.rows) for batch in batches)
        losses = []
        for batch in batches:
            if len(batch.rows):
                loss = self._likelihood(batch, 1 / scored)
                torch.autograd.backward(loss)
                losses.append(loss.detach())
        tokens = sum(batch.tokens for batch in batches)
        return Tally(_total(losses) * scored, tokens, scored, tokens - sum(batch.ids.shape[1] for batch in batches))

    def validators(self) -> int:
        """See Learner."""
        return len(self._plan.validation)

    def evaluate(self, validator: int) -> Iterator[Tally]:
        """See Learner."""
        self._settle()
        shard = self._plan.validation[validator]
        for start in range(0, len(shard), 64):
            examples = np.arange(start, min(start + 64, len(shard)))
            for batch in self._batches(shard, examples):
                with torch.no_grad():
                    nll = [self._likelihood(batch)] if len(batch.rows) else []
                yield Tally(_total(nll), batch.tokens, len(batch.rows))

    def save(self, folder: Path, base: Path, base_name: str) -> None:
        """Write the result, an adapter or a whole model; see Descent.save."""
        if self._masters is not None:
            self._masters.widen()
        self._descent.save(self.model, self.adapter, folder, base, base_name)

    def _batches(self, shard: Shard, examples: NDArray[np.int64]) -> Iterator[Packed]:
        """The examples' segments in rows within the token budget, shortest first."""
        for stretches in packs(shard, examples.tolist(), self._budget):
            yield self._lay(shard, stretches)

    def _lay(self, shard: Shard, stretches: list[Stretch]) -> Packed:
        return _lay(shard, stretches, self.device, _beginning(shard, stretches) if self.layout.shares else 0)

    def _likelihood(self, batch: Packed, share: float = 1.0) -> Tensor:
        return self.layout.likelihood(
            batch.ids, batch.positions, batch.segments, batch.rows, batch.targets, share, batch.shared
        )

    def logits(self, batch: Packed) -> Tensor:
        """(labels, vocabulary): what the model says at the place before each label."""
        self._settle()
        return self.layout.logits(batch.ids, batch.positions, batch.segments, batch.rows, batch.shared)

    def _settle(self) -> None:
        """Let the model compute with what the parameters have become."""
        if self._masters is not None:
            self._masters.round()


def load_learner(
    base: Path,
    plan: Plan,
    *,
    method: str,
    rank: int,
    alpha: float,
    seed: int,
    device: str,
    dtype: str | torch.dtype = "auto",
    parent: Path | None = None,
    whole_parent: bool = False,
) -> TextLearner:
    """Load the base and make it trainable: lora with fresh factors, or full with float32 masters.

    `parent` is the folder of the adapter that the job starts from; `whole_parent`: the base is itself a custom model.
    """
    heap.keep()
    torch.manual_seed(seed)
    descent = Descent.read(parent, whole_parent)
    if method == "lora":
        layout = Layout.of(weights.load_model(base, dtype, device))
        return TextLearner(layout, plan, descent.adapt(layout.model, rank, alpha, seed), descent)
    model = weights.load_model(base, torch.float32, device)
    descent.open(model)
    width = weights.choose_dtype(model.config, dtype, device)
    masters = Masters(model, width) if width != torch.float32 and can_narrow(model) else None
    return TextLearner(Layout.of(model), plan, None, descent, masters=masters)


def pack(shard: Shard, examples: list[int], device: torch.device, *, share: bool = False) -> Packed:
    """Lay whole examples end to end, in this order; share: what all begin with once, where that is worth it."""
    stretches = [stretch for index in examples for stretch in shard.stretches(index)]
    return _lay(shard, stretches, device, _beginning(shard, stretches) if share else 0)


def _beginning(shard: Shard, stretches: list[Stretch]) -> int:
    """Tokens that all segments begin with, none of them a label or the place before one; 0 where they spare little."""
    # Every segment keeps a token of its own at least, from which its first label is predicted.
    most = min(next(iter(np.flatnonzero(shard.scored[start:end])), end - start) - 1 for start, end in stretches)
    if most < SHARED:
        return 0
    first = shard.tokens[stretches[0][0] :][:most]
    for start, _ in stretches[1:]:
        apart = np.flatnonzero(shard.tokens[start : start + most] != first[:most])
        most = int(apart[0]) if len(apart) else most
    spared = most * (len(stretches) - 1)
    worth = most >= SHARED and spared * SPARED >= sum(end - start for start, end in stretches)
    return int(most) if worth else 0


def _lay(shard: Shard, stretches: list[Stretch], device: torch.device, shared: int) -> Packed:
    """Lay segments end to end behind what they share: no padding, and no label across a boundary."""
    segments = [end - start - shared for start, end in stretches]
    front = stretches[0][0], stretches[0][0] + shared
    pieces = [front, *((start + shared, end) for start, end in stretches)]
    row = np.concatenate([shard.tokens[start:end] for start, end in pieces]).astype(np.int64)
    labels = np.flatnonzero(np.concatenate([shard.scored[start:end] for start, end in pieces]))
    positions = [torch.arange(shared), *(torch.arange(shared, shared + length) for length in segments)]
    # A label is predicted from the place before it, which is in the same segment: a first token is never a label.
    return Packed(
        ids=torch.from_numpy(row).unsqueeze(0).to(device),
        positions=torch.cat(positions).unsqueeze(0).to(device),
        segments=tuple(segments),
        shared=shared,
        tokens=sum(end - start for start, end in stretches),
        rows=torch.from_numpy(labels - 1).to(device),
        targets=torch.from_numpy(row[labels]).to(device),
    )


def _total(losses: list[Tensor]) -> float:
    """Sum in float64, read from the device once."""
    return float(torch.stack(losses).double().sum()) if losses else 0.0
