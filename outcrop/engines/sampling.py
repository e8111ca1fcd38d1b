"""From rows of logits to tokens: greedy, temperature, top-k, top-p, each request with its own random numbers.

Knows tensors; nothing of models, text or requests' dialects.
"""

import math
import random
from collections.abc import Sequence
from itertools import groupby
from typing import Final

import torch
from torch import Tensor

from outcrop import kernels
from outcrop.kernels.peaks import peaks

BLOCK: Final = 256
"""Tokens whose weights are summed before any of them is looked at: adding up each of 150,000 takes ten times longer."""

AT_ONCE: Final = 1 << 17
"""Weights that are looked at at once: what a core's own cache holds, and the system need not fetch anew each time."""

COLDEST, HOTTEST = 1e-30, 1e30
"""Between these temperatures float32 divides any logits: the one is greedy already, the other has forgotten them."""


class Sampler:
    """How one request draws its tokens, and the random numbers that it draws them by.

    temperature 0 is greedy; top_p in (0, 1]; top_k 0 means no limit. The same seed over the same logits draws the same
    tokens, whoever else is in the step; without a seed every request draws its own. As in transformers, temperature
    acts first, then top-k, then top-p over what top-k left.
    """

    __slots__ = ("_random", "temperature", "top_k", "top_p")

    def __init__(self, temperature: float, top_p: float, top_k: int, seed: int | None) -> None:
        self.temperature, self.top_p, self.top_k = temperature, top_p, top_k
        # random.Random takes -5 for 5.
        self._random = random.Random(None if seed is None else seed % 2**64)  # a text is no secret

    def roll(self) -> float:
        """The next random number, in [0, 1)."""
        return self._random.random()


def choose_all(samplers: Sequence[Sampler], logits: Tensor) -> list[int | None]:
    """A token for each row of logits (rows, vocabulary), by its own sampler; None where they are no finite numbers."""
    heights, best = _peaks(logits)
    tokens: list[int | None] = [*best]
    drawing = []
    for row, height in enumerate(heights.tolist()):
        if not math.isfinite(height):
            tokens[row] = None
        elif samplers[row].temperature > 0:
            drawing.append(row)
    # Those with a top-k apart: nobody else needs anything sorted.
    drawing.sort(key=lambda row: samplers[row].top_k > 0)
    step = max(1, AT_ONCE // logits.shape[1])
    for cut, alike in groupby(drawing, key=lambda row: samplers[row].top_k > 0):
        kind = list(alike)
        for first in range(0, len(kind), step):
            some = kind[first : first + step]
            drawn = _drawn([samplers[row] for row in some], logits[some], heights[some], cut=cut)
            for row, token in zip(some, drawn, strict=True):
                tokens[row] = token
    return tokens


def _peaks(logits: Tensor) -> tuple[Tensor, list[int]]:
    """Each row's largest logit and its place."""
    if kernels.run(logits.device, logits.dtype):
        return peaks(logits)
    heights, places = logits.max(-1)
    return heights, places.tolist()


def _drawn(samplers: Sequence[Sampler], logits: Tensor, heights: Tensor, *, cut: bool) -> list[int]:
    """A token for each row, whose largest logit is its height; `cut`: all of them have a top-k, else none."""
    tokens = None
    if cut:
        most = [min(sampler.top_k, logits.shape[1]) for sampler in samplers]
        logits, tokens = logits.topk(max(most))
        beyond = torch.arange(max(most), device=logits.device) >= torch.tensor(most, device=logits.device)[:, None]
        logits = logits.masked_fill(beyond, -math.inf)
    # Filled up to whole blocks by what is never drawn.
    wide = logits.new_full((len(samplers), -(-logits.shape[1] // BLOCK) * BLOCK), -math.inf, dtype=torch.float32)
    # What is likeliest stays at 0 whatever it is divided by: weights are numbers then, and not all of them are zero.
    torch.sub(logits, heights[:, None].float(), out=wide[:, : logits.shape[1]])
    heats = wide.new_tensor([min(max(sampler.temperature, COLDEST), HOTTEST) for sampler in samplers])
    places = _heads(samplers, wide.div_(heats[:, None]).softmax(-1))
    if tokens is None:
        return places
    return [int(row[place]) for row, place in zip(tokens, places, strict=True)]


def _heads(samplers: Sequence[Sampler], weights: Tensor) -> list[int]:
    """A place of each row of weights (rows, places), in proportion to them, within the head that holds its top_p.

    The head is the shortest one of falling weights; the first always stays. It need not be known to draw from it: what
    is drawn lies in it where all that come before it weigh less than top_p, and else it is out with all after it.
    """
    free = all(sampler.top_p >= 1 for sampler in samplers)
    limits = weights.new_tensor([sampler.top_p if sampler.top_p < 1 else math.inf for sampler in samplers])
    found = [0] * len(samplers)
    left = list(range(len(samplers)))
    while left:
        places = _pick(weights, weights.new_tensor([samplers[row].roll() for row in left]))
        # A place of no weight is drawn where rounding puts a number upon the very top.
        inside = weights.gather(1, places[:, None])[:, 0] > 0
        if not free:
            weights = _before(weights, places)
            share = weights.sum(-1)
            inside &= (share < limits[left]) | (share == 0)
        stays = inside.tolist()
        for row, place, drawn in zip(left, places.tolist(), stays, strict=True):
            if drawn:
                found[row] = place
        again = [number for number, drawn in enumerate(stays) if not drawn]
        left, weights = [left[number] for number in again], weights[again]
    return found


def _pick(weights: Tensor, rolls: Tensor) -> Tensor:
    """A place of each row in proportion to its weights (rows, places), which need not sum to 1."""
    blocks = weights.view(len(weights), -1, BLOCK)
    sums = blocks.sum(-1)
    heights = sums.cumsum(-1)
    marks = (rolls * heights[:, -1])[:, None]
    block = torch.searchsorted(heights, marks, right=True).clamp_max_(heights.shape[1] - 1)
    marks -= (heights - sums).gather(1, block)
    within = blocks[torch.arange(len(weights), device=weights.device), block[:, 0]].cumsum(-1)
    place = torch.searchsorted(within, marks, right=True).clamp_max_(BLOCK - 1)
    return (block * BLOCK + place)[:, 0]


def _before(weights: Tensor, places: Tensor) -> Tensor:
    """The weights (rows, places) of all that come before each row's place as weights fall, of equal ones the earlier.

    The others are zero. Comparisons are written as numbers at once: turning truth values into them takes a CPU longer.
    """
    mark = weights.gather(1, places[:, None])
    ahead, alike, earlier = (torch.empty_like(weights) for _ in range(3))
    torch.gt(weights, mark, out=ahead)
    torch.eq(weights, mark, out=alike)
    torch.lt(torch.arange(weights.shape[1], device=weights.device), places[:, None], out=earlier)
    return ahead.addcmul_(alike, earlier).mul_(weights)
