"""The same step twice gives the same bits, on a GPU too: what a resumed run rests on.

A CPU's products and our own kernels are so by themselves; a GPU's add in whatever order is fastest unless torch is told
otherwise, and of some operations it has no other way. Which those are is found out by one step of the plan before any
counts. Knows torch's switches and a learner; nothing of models.
"""

import os
from typing import TYPE_CHECKING, Final

from outcrop.datasets.plan import Plan

if TYPE_CHECKING:
    from outcrop.train.text import TextLearner

WORKSPACE: Final = ":4096:8"
"""Of cuBLAS, as torch and NVIDIA ask for it: with more than one, products may add up in another order."""
LOOKED: Final = 64
"""Steps among which the shortest is tried."""


def prepare() -> None:
    """Have cuBLAS be such; to be called before a GPU is used, as it looks only once."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)


def insist() -> None:
    """Have torch take nothing but what repeats itself, or raise: once a model is there, of which some cannot do so."""
    import torch

    # Not as a warning: flash attention's way back adds in a fixed order only where nothing else is allowed.
    torch.use_deterministic_algorithms(True)
    # We read nothing that was not written; to fill all of it first would be a pass over memory for each tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def tried(learner: "TextLearner", plan: Plan) -> str | None:
    """Take a short step and drop it, where torch was told to insist.

    Where something in it cannot be repeated that is allowed from then on, and this is what a job's log says of it.
    """
    import torch

    if not torch.are_deterministic_algorithms_enabled():
        return None
    lengths = plan.train.lengths()
    short = min(range(min(plan.steps, LOOKED)), key=lambda step: int(lengths[plan.examples(step)].sum()))
    devices = [learner.device] if learner.device.type == "cuda" else []
    said = None
    try:
        with torch.random.fork_rng(devices):
            learner.learn(short)
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        torch.use_deterministic_algorithms(False)
        said = (
            f"its steps do not repeat to the last bit on this GPU, so a run that was interrupted goes on a little "
            f"differently than it would have: {str(error).splitlines()[0].split('. ')[0]}"
        )
    for parameter in (*learner.parameters(), *learner.model.parameters()):
        parameter.grad = None
    return said
