"""Weights judged before they stand behind a model: everything that a job or an engine would trip over later.

What is wrong raises; what is odd is told; and what fits this machine's memory is told with figures. Knows folders, the
tokenizer and the proof; nothing of stores or of how it is shown.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outcrop.datasets.chat import TEMPLATED
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.sources import memory
from outcrop.sources.fetch import Fetched
from outcrop.sources.look import Look, look
from outcrop.sources.memory import gigabytes
from outcrop.sources.proof import Proof, prove
from outcrop.sources.shelf import require_layout

RANK: Final = 16
"""LoRA's rank that the figures are for; a job's loraRank changes little."""

TRY_SHARE: Final = 0.25
"""Weights of up to this share of the free memory are loaded and run once."""

Prove = Callable[[Path, str, int], Proof]
"""Tries a folder's weights by their name, loading them up to so many bytes."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One use of the weights, and whether this machine has the memory for it."""

    use: str
    needed: int
    """Least bytes; a training step's activations come on top."""
    free: int
    total: int

    @property
    def fits(self) -> bool:
        """Whether that much is free now."""
        return self.needed <= self.free


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is known of weights that may stand behind a model."""

    name: str
    seen: Look
    proof: Proof
    template: bool
    """Whether they bring a chat template of their own."""
    fits: tuple[Fit, ...]
    """serve, train with LoRA, train all weights."""
    remarks: tuple[str, ...]
    """What a person should know, worst first."""


def accept(fetched: Fetched, formats: Collection[str], prove: Prove = prove) -> Accepted:
    """Judge weights for a model whose datasets have these formats; raises OutcropError that says what is wrong.

    prove: by default a child process.
    """
    name, folder = fetched.name, fetched.folder
    seen = look(folder, name)
    require_layout(folder, name)
    encoder = Encoder.read(folder)
    here = memory.here()
    if not memory.GPU.exists():
        # Before they are tried: what is larger than the machine cannot even be mapped everywhere.
        _require_room(seen, name, memory.number_bytes(seen.width), here.total, "this machine")
    proof = prove(folder, name, int(here.free * TRY_SHARE))
    _fit_vocabulary(encoder, proof, name)
    free, total = (proof.device_memory,) * 2 if proof.device_memory else (here.free, here.total)
    fits = (
        Fit("serve", memory.serving(seen, proof.number_bytes), free, total),
        Fit("train with LoRA", memory.training(seen, "lora", RANK, proof.number_bytes), free, total),
        Fit("train all weights", memory.training(seen, "full", RANK, 4), free, total),
    )
    _require_room(seen, name, proof.number_bytes, total, "the GPU" if proof.device_memory else "this machine")
    return Accepted(name, seen, proof, encoder.chat.own, fits, tuple(_remarks(encoder, proof, fits, formats)))


def _require_room(seen: Look, name: str, number: int, total: int, where: str) -> None:
    need = memory.serving(seen, number)
    if need > total:
        raise OutcropError(
            f"weights {name}: serving them takes at least {gigabytes(need)} of memory, and {where} has "
            f"{gigabytes(total)}: take smaller ones, or a larger machine"
        )


def _fit_vocabulary(encoder: Encoder, proof: Proof, name: str) -> None:
    largest = max(encoder.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= proof.embedding:
        raise OutcropError(
            f"weights {name}: the tokenizer has token {largest}, and the model's embedding ends at "
            f"{proof.embedding - 1}: they do not belong together"
        )


def _remarks(encoder: Encoder, proof: Proof, fits: Collection[Fit], formats: Collection[str]) -> list[str]:
    """Oddities; a template that teaches no stop token is one only where other formats remain."""
    found = []
    try:
        encoder.chat.check(encoder)
    except OutcropError as fault:
        if TEMPLATED.issuperset(formats):
            raise
        found.append(f"no conversations can be trained on: {fault}")
    if not proof.linear_layers:
        found.append("it has no linear layer that LoRA could adapt: jobs need the hyperparameter method=full")
    found += [
        f"too little memory to {fit.use}: at least {gigabytes(fit.needed)} needed, {gigabytes(fit.free)} free"
        for fit in fits
        if not fit.fits
    ]
    if proof.slower:
        found.append(proof.slower)
    if not encoder.chat.own and TEMPLATED.intersection(formats):
        found.append("it brings no chat template: conversations are written in a plain form (User: …, Assistant: …)")
    if not proof.loaded:
        found.append("it is too large to be tried now: its architecture and every tensor's name and shape were checked")
    return found
