"""How well a base does what it was taught, on pairs drawn with another seed: one score a maker. It trains nothing."""

from dataclasses import dataclass
from itertools import islice
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM

from foundry.packing import Document, documents
from foundry.pairs import Maker


@dataclass(frozen=True, slots=True)
class Score:
    """Mean NLL of completion tokens in nats; share of pairs whose every completion token is the likeliest one."""

    nll: float
    exact: float


@torch.no_grad()
def examine(
    model: LlamaForCausalLM, tokenizer: Tokenizer, makers: tuple[Maker, ...], count: int, seed: int
) -> dict[str, Score]:
    """Score `count` fresh pairs of every maker, with the true prefix given at each token; makers are keyed by name."""
    model.eval()  # type: ignore[no-untyped-call]
    scores = {}
    for maker in makers:
        rng = Random(f"{seed} {maker.__name__}")
        stream = documents(iter([maker(rng) for _ in range(count)]), tokenizer, seed, prompt_share=0.0)
        results = [_one(model, document) for document in islice(stream, count)]
        nll, tokens = sum(r[0] for r in results), sum(r[1] for r in results)
        scores[maker.__name__] = Score(nll / tokens, float(np.mean([r[2] for r in results])))
    return scores


def _one(model: LlamaForCausalLM, document: Document) -> tuple[float, int, bool]:
    ids = torch.tensor([document.ids])
    wanted = torch.tensor([document.scored[1:]])
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1][wanted].float()
    targets = ids[:, 1:][wanted]
    nll = functional.cross_entropy(logits, targets, reduction="sum")
    return float(nll), len(targets), bool((logits.argmax(-1) == targets).all())
