"""How a job's largest step goes into memory: as it is, with layers computed again on their way back, or not at all.

A step that does not fit is told before it is taken, with figures, instead of ending in a killed process. Asked in every
life anew, as what is free changes; either way gives the same bits, so nothing of it is kept. Knows the spec, the plan
and the learner.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.datasets.packs import Pack, shapes
from outcrop.datasets.plan import Plan
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec
from outcrop.sources.fit import DEARER, Fit, fit
from outcrop.sources.look import look
from outcrop.sources.memory import Memory, gigabytes
from outcrop.sources.step import Manner, head_size, known, need
from outcrop.train.memory import allowed

if TYPE_CHECKING:
    from outcrop.train.text import TextLearner


def make_room(
    spec: TrainSpec, plan: Plan, learner: "TextLearner", *, refuse: bool = True, there: Memory | None = None
) -> str | None:
    """Have the learner's layers computed again on their way back where its largest step might not fit otherwise.

    Returns what a job's log says of it; None where there is room, as usual. refuse: raise OutcropError where not even
    that can fit, but never of a GPU, which says itself when it is full. there: what this process may have in all; by
    default what is so.
    """
    how = manner_of(learner)
    found = fit(spec, look(Path(spec.base), spec.base_name), plan, how, there or allowed(on_gpu=how.on_gpu))
    if found.hopeless and refuse and not how.on_gpu:
        raise OutcropError(_refusal(spec, found, how, shapes(plan)))
    if not found.tight:
        return None
    from outcrop.train import recompute  # torch is imported where it is needed

    what = f"{_step(found.pack)} would hold about {gigabytes(found.plain.total)}, and {_free(found.there)}"
    if not found.recomputes:
        return f"{what}: memory may run out"
    if not recompute.install(learner.model):
        name = type(learner.model).__name__
        return f"{what}; {name} has no layers that could be computed again on their way back, so memory may run out"
    told = (
        f"{what}: layers are computed again on their way back, which takes about {gigabytes(found.again.total)} and "
        f"{DEARER[spec.method]}, and changes no result"
    )
    return told if found.again.most <= found.there.free else f"{told}; memory may run out all the same"


def unreckoned(spec: TrainSpec) -> str | None:
    """What a job's log says of weights whose steps cannot be reckoned; None of all others."""
    seen = look(Path(spec.base), spec.base_name)
    if known(seen):
        return None
    return (
        f"what a step of {seen.architecture} holds is not reckoned, as it has parts that are not known here: whether "
        "memory is enough shows only while it trains"
    )


def manner_of(learner: "TextLearner") -> Manner:
    """How a learner trains, as far as memory depends on it."""
    from outcrop.train import fused  # torch is imported where it is needed

    layout = learner.layout
    width = head_size(learner.model.config.get_text_config().to_dict())
    by_kernel = layout.alone is None and fused.takes(learner.device, learner.dtype, width)
    on_gpu = learner.device.type == "cuda"
    return Manner(learner.dtype.itemsize, layout.blocks, layout.head is not None, on_gpu, by_kernel)


def _refusal(spec: TrainSpec, found: Fit, how: Manner, forms: int) -> str:
    """What a person is told of a step that cannot fit."""
    seen, free = look(Path(spec.base), spec.base_name), found.there.free
    longest = max(found.pack.lengths)
    alone = Pack((longest,), min(found.pack.labels, longest))
    ways = [f"shorter examples (maxSequenceLength): the longest of them has {longest:,} tokens"]
    single = need(seen, spec.method, spec.lora_rank, alone, how, forms, again=True).total
    if single <= free:
        ways.insert(0, f"a smaller batchSize: one such example alone takes about {gigabytes(single)}")
    lora = need(seen, "lora", spec.lora_rank, found.pack, how, forms, again=True).total
    if spec.method == "full" and lora <= free:
        ways.insert(0, f"the hyperparameter method=lora, which takes about {gigabytes(lora)}")
    ways += ["smaller weights (`outcrop models use`)", "ending what else uses memory here", "a larger machine"]
    again = " even with layers that are computed again on their way back" if found.recomputes else ""
    what = "all weights" if spec.method == "full" else "a LoRA adapter"
    return (
        f"Too little memory: to train {what} of {spec.base_name}, {_step(found.pack)} takes about "
        f"{gigabytes(found.chosen.total)}{again}, and {_free(found.there)}. What helps: {'; or '.join(ways)}"
    )


def _step(pack: Pack) -> str:
    if len(pack.lengths) == 1:
        return f"a step of {pack.tokens:,} tokens"
    return f"a step of {pack.tokens:,} tokens at once ({len(pack.lengths)} examples of up to {max(pack.lengths):,})"


def _free(there: Memory) -> str:
    return f"{gigabytes(there.free)} of {gigabytes(there.total)} are free for it"
