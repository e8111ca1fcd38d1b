"""Segments of any lengths in one call of flash attention: torch's varlen_attn, which takes them by cumulative lengths.

What all segments begin with lies in front of the row once; the kernel wants every segment's keys in one piece, so they
are laid out anew, and their gradients are summed in float32 on the way back. Knows tensors and what torch's kernel can
take; nothing of models or of who packs. Whether a machine's kernel says the truth is tried elsewhere (attention).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, Final

import torch
from torch import Tensor

Kernel = Callable[..., Tensor]
"""As torch.nn.attention.varlen.varlen_attn of torch 2.11 and later; causality is aligned to the end of the keys.

It is given the tensors and lengths of GIVEN in this order, and BY_NAME: see attention().
"""

GIVEN: Final = ("query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k")
BY_NAME: Final = ("scale", "window_size")

DTYPES: Final = frozenset({torch.bfloat16, torch.float16})
WIDEST: Final = 256
EVEN: Final = 8
"""Flash attention takes heads that are multiples of 8 wide, up to 256."""

CAPABILITY: Final = (8, 0)
"""Ampere; flash attention does not run on older GPUs."""


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Where the segments of one row begin and end, as the kernel wants it."""

    queries: Tensor
    """(N + 1,) int32: cumulative lengths; what is shared is the first of the N."""
    keys: Tensor
    """The same of the keys that each sees."""
    longest_queries: int
    longest_keys: int
    spread: "Spread | None"
    """None where nothing is shared: keys are the row's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Keys of a row with what is shared in front of each segment, and the way back."""

    order: Tensor
    """(K,): the place in the row that each comes from."""
    own: Tensor
    """(T - shared,): where the segments' own keys went."""
    copies: Tensor
    """(N, shared): where what is shared went."""


def kernel() -> Kernel | None:
    """Torch's own, or None where this torch has none that takes a scale and a window (before 2.11)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    found: Any = varlen_attn
    taken = inspect.signature(found).parameters
    if tuple(taken)[: len(GIVEN)] != GIVEN or not {*BY_NAME} <= set(taken):
        return None
    # From 2.12 on it wants to be told that keys may have fewer heads, before that it finds it by itself.
    kernel: Kernel = partial(found, enable_gqa=True) if "enable_gqa" in taken else found
    return kernel


def doubt(device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why one call is out of the question for heads of this width there, or None."""
    if dtype not in DTYPES:
        return f"flash attention takes bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if width % EVEN or width > WIDEST:
        return f"flash attention takes heads of multiples of {EVEN} up to {WIDEST} numbers, not of {width}"
    if kernel() is None:
        return f"torch {torch.__version__} has no varlen_attn with a scale and a window (2.11 and later have)"
    if device.type == "cuda" and (has := torch.cuda.get_device_capability(device)) < CAPABILITY:
        return f"flash attention needs a GPU of compute capability {_dotted(CAPABILITY)}, this one has {_dotted(has)}"
    return None


def attention(
    heads: tuple[Tensor, Tensor, Tensor],
    segments: Sequence[int],
    scale: float,
    shared: int = 0,
    *,
    window: int | None = None,
    by: Kernel,
) -> Tensor:
    """Causal attention within segments that lie end to end, all of them going on from the first `shared` places.

    heads are the query (heads, T, d), key and value (kv heads, T, d), with T those places and the sum of the segments;
    window: how many places each sees, itself among them; by: what kernel() gave. Returns (T, heads, d).
    """
    q, k, v = (one.transpose(0, 1) for one in heads)
    cuts = cut(tuple(segments), shared, q.device)
    if cuts.spread is not None:
        k, v = (_Spreading.apply(one, cuts.spread) for one in (k, v))  # type: ignore[no-untyped-call]
    # (-1, 0) is plain causality, for which kernels have a faster way than for a window that hides nothing.
    left = -1 if window is None or window >= cuts.longest_keys else window - 1
    return by(
        q, k, v, cuts.queries, cuts.keys, cuts.longest_queries, cuts.longest_keys, scale=scale, window_size=(left, 0)
    )


@lru_cache(maxsize=4)
def cut(segments: tuple[int, ...], shared: int, device: torch.device) -> Cuts:
    """The cuts of a row: remembered, as every layer asks for the same and the way to a GPU makes it wait."""
    lengths = (shared, *segments) if shared else segments
    seen = (shared, *(shared + length for length in segments)) if shared else segments
    return Cuts(
        queries=_cumulative(lengths, device),
        keys=_cumulative(seen, device),
        longest_queries=max(lengths),
        longest_keys=max(seen),
        spread=_spread(segments, shared, device) if shared else None,
    )


def _cumulative(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32, device=device)


def _spread(segments: Sequence[int], shared: int, device: torch.device) -> Spread:
    front = torch.arange(shared)
    # What is shared comes first, and is then in front of every segment.
    order, own, copies = [front], [], [front]
    filled, start = shared, shared
    for length in segments:
        order += [front, torch.arange(start, start + length)]
        copies.append(filled + front)
        own.append(filled + shared + torch.arange(length))
        start += length
        filled += shared + length
    return Spread(torch.cat(order).to(device), torch.cat(own).to(device), torch.stack(copies).to(device))


class _Spreading(torch.autograd.Function):
    """Keys or values laid out as the segments see them; torch's way back would add in bfloat16, in any order."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, spread: Spread) -> Tensor:
        """(T, kv heads, d) to (K, kv heads, d)."""
        ctx.spread = spread
        return row.index_select(0, spread.order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The sum over all copies of what is shared, and what the segments' own were given."""
        (above,) = gradients
        spread: Spread = ctx.spread
        copies = above.index_select(0, spread.copies.flatten())
        exact = torch.promote_types(above.dtype, torch.float32)
        shared = copies.view(*spread.copies.shape, *above.shape[1:]).sum(dim=0, dtype=exact).to(above.dtype)
        return torch.cat((shared, above.index_select(0, spread.own))), None


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
