"""The foundry's training loop: packed rows, bf16 autocast, Muon and AdamW, warm-up and cosine; no resume.

It knows a model and a stream of batches. The trainer of customization jobs is another one, in `outcrop/train`.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from foundry.packing import Rows


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training: how many steps with how many rows of how many tokens."""

    steps: int
    rows: int
    length: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after a step: losses are nats per scored token."""

    step: int
    loss: float
    rate: float
    tokens: int
    seconds: float


def loss_of(model: LlamaForCausalLM, batch: Rows) -> torch.Tensor:
    """Mean NLL of the scored positions of a batch; only they pass through the head."""
    ids = torch.from_numpy(batch.ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        wanted = torch.from_numpy(batch.scored[:, 1:])
        logits = model.lm_head(hidden[:, :-1][wanted])
    return functional.cross_entropy(logits.float(), ids[:, 1:][wanted])


def rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up to `peak`, then a cosine down to a fiftieth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizers_for(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms.

    Measured on two CPU cores at equal time, Muon was ahead of AdamW alone: 3.70 against 4.15 nats after 130 s.
    """
    embedding = model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim != 2 or p is embedding]
    return [
        torch.optim.Muon(matrices, lr=0.0, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def train(
    model: LlamaForCausalLM,
    stages: tuple[Stage, ...],
    batches: Callable[[Stage], Iterator[Rows]],
    peak: float,
    report: Callable[[Progress], None],
) -> None:
    """Train in place through all stages; `report` is called after every step."""
    steps = sum(stage.steps for stage in stages)
    optimizers = optimizers_for(model)
    began, step, tokens = time.monotonic(), 0, 0
    model.train()
    for stage in stages:
        stream = batches(stage)
        for _ in range(stage.steps):
            rate = rate_at(step, steps, peak, warmup=min(100, steps // 10 + 1))
            loss = loss_of(model, next(stream))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad()
            step, tokens = step + 1, tokens + stage.rows * stage.length
            report(Progress(step, loss.item(), rate, tokens, time.monotonic() - began))
