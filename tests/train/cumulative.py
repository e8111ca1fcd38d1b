"""Attention by cumulative lengths as torch's varlen_attn has it, in float64: what stands for a GPU's kernel.

It takes what that takes, checks what that would check, and aligns causality to the end of the keys.
"""

import torch
from torch import Tensor


def reference(  # noqa: PLR0917
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
) -> Tensor:
    """query (T_q, heads, d), key and value (T_k, kv heads, d) to (T_q, heads, d)."""
    lengths = [cuts.diff() for cuts in (cu_seq_q, cu_seq_k)]
    for cuts, length, longest, rows in zip((cu_seq_q, cu_seq_k), lengths, (max_q, max_k), (query, key), strict=True):
        assert cuts.dtype == torch.int32
        assert (int(cuts[0]), int(cuts[-1])) == (0, len(rows))
        assert int(length.min()) > 0
        assert int(length.max()) == longest
    assert len(cu_seq_q) == len(cu_seq_k)
    assert all(one.stride(-1) == 1 for one in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    pieces = []
    rows_of, keys_of = (torch.split(torch.arange(int(cuts[-1])), cuts.diff().tolist()) for cuts in (cu_seq_q, cu_seq_k))
    for rows, keys in zip(rows_of, keys_of, strict=True):
        q = query[rows].double()
        k, v = (one[keys].double().repeat_interleave(groups, dim=1) for one in (key, value))
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        # Place of a query among the keys, the last query at the last key.
        places = torch.arange(len(keys) - len(rows), len(keys))[:, None]
        distance = places - torch.arange(len(keys))[None, :]
        left, right = window_size
        hidden = torch.zeros_like(distance, dtype=torch.bool)
        if left >= 0:
            hidden |= distance > left
        if right >= 0:
            hidden |= distance < -right
        shares = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1)
        pieces.append(torch.einsum("hqk,khd->qhd", shares, v))
    return torch.cat(pieces).to(query.dtype)
