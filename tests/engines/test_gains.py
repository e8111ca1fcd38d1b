"""What adapters gain in a step: whoever joins, leaves and comes back, each row gets its own adapter's factors."""

import random

import pytest
import torch
from torch import Tensor

from outcrop.engines.adapters import Gains
from outcrop.engines.loaded import Group, Loaded, Target, groups
from outcrop.engines.shelf import Shelf
from outcrop.errors import OutcropError
from outcrop.lora import Factors, LoraAdapter

TARGETS = [Target(6, {"q": 8, "k": 4, "v": 4}), Target(8, {"out": 6}), Target(6, {"gate": 5, "up": 5})]
INPUTS = {"q": 6, "k": 6, "v": 6, "out": 8, "gate": 6, "up": 6}
SHELVED = torch.float64
"""What no kernel reads."""
OUTPUTS = {path: width for target in TARGETS for path, width in target.outputs.items()}


def adapter_of(seed: int, ranks: dict[str, int]) -> LoraAdapter:
    draw = torch.Generator().manual_seed(seed)

    def factors(path: str, rank: int) -> Factors:
        a, b = (torch.randn(shape, generator=draw) for shape in ((rank, INPUTS[path]), (OUTPUTS[path], rank)))
        return Factors(a, b, 0.5 + seed / 10)

    return LoraAdapter(max(ranks.values()), 1.0, {path: factors(path, rank) for path, rank in ranks.items()})


KINDS = [
    {"q": 2, "v": 2},
    {"q": 2, "k": 2, "v": 2, "out": 2, "gate": 2, "up": 2},
    {"k": 3, "v": 1, "up": 4},
    {"out": 5, "gate": 1},
    {"q": 7},
]


def expected(adapter: LoraAdapter, target: Target, x: Tensor) -> Tensor:
    pieces = []
    for path, width in target.outputs.items():
        one = adapter.factors.get(path)
        pieces.append(torch.zeros(len(x), width) if one is None else x @ one.a.t() @ one.b.t() * one.scale)
    return torch.cat(pieces, 1)


def check(gains: Gains, own: dict[Loaded, LoraAdapter], parts: list[tuple[Loaded | None, int]]) -> list[Group]:
    dtype = gains._dtype
    rows = sum(length for _, length in parts)
    found = groups(parts)
    gains.begin(found, rows)
    for place, target in enumerate(TARGETS):
        x, y = (torch.randn(rows, width).to(dtype) for width in (target.inputs, sum(target.outputs.values())))
        wanted, row = y.float(), 0
        for adapter, length in parts:
            if adapter is not None:
                wanted[row : row + length] += expected(own[adapter], target, x[row : row + length].float())
            row += length
        if gains.acting:
            gains.add(place, x, y)
        near = {"rtol": 1e-5, "atol": 1e-4} if dtype != torch.bfloat16 else {"rtol": 0.02, "atol": 0.2}
        torch.testing.assert_close(y.float(), wanted, **near)
    return found


def loaded(count: int, dtype: torch.dtype = SHELVED) -> tuple[Gains, dict[Loaded, LoraAdapter]]:
    gains = Gains(TARGETS, dtype, torch.device("cpu"))
    made = [adapter_of(number, KINDS[number % len(KINDS)]) for number in range(count)]
    return gains, {gains.lay_out(f"a{number}", one): one for number, one in enumerate(made)}


@pytest.mark.parametrize("dtype", [SHELVED, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_rows_gain_from_their_own_adapter_whoever_comes_and_goes(seed: int, dtype: torch.dtype) -> None:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    gains, own = loaded(12, dtype)
    many = 0
    for _ in range(60):
        chosen = draw.sample(list(own), draw.choice((0, 1, 2, 3, 8, 12)))
        # Some rows of the base between them, so that those of adapters lie in several places.
        parts = [(one, draw.choice((1, 1, 1, 2, 3, 5, 40))) for one in (*chosen, *([None] * draw.randrange(3)))]
        draw.shuffle(parts)
        found = check(gains, own, parts)
        many = max(many, sum(len(group.adapters) > 1 for group in found))
        if draw.random() < 0.2:
            gone = draw.choice(list(own))
            gains.forget(gone)
            again = own.pop(gone)
            own[gains.lay_out("again", again)] = again
    assert many > 1


def test_who_stays_is_not_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gains, own = loaded(6)
    everybody = list(own)
    filled: list[str] = []
    fill = Shelf._fill

    def told(shelf: Shelf, slot: int, one: Loaded) -> None:
        filled.append(one.name)
        fill(shelf, slot, one)

    monkeypatch.setattr(Shelf, "_fill", told)
    check(gains, own, [(one, 1) for one in everybody])
    assert filled == ["a0", "a1", "a2", "a3", "a4", "a5"]
    for some in (everybody[1:], everybody[2:5], everybody):
        check(gains, own, [(one, 1) for one in some])
    assert len(filled) == 6
    # Few beside many idle slots would read those for nothing: they move to the front, and come back from there.
    check(gains, own, [(one, 1) for one in everybody[4:]])
    assert filled[6:] == ["a4", "a5"]


def test_a_preparation_that_failed_is_not_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    gains, own = loaded(3)
    parts: list[tuple[Loaded | None, int]] = [(one, 1) for one in own]

    def no_memory(shelf: Shelf, *shape: int) -> Tensor:
        raise RuntimeError(f"no memory for {shape}")

    with monkeypatch.context() as broken:
        broken.setattr(Shelf, "_zeros", no_memory)
        with pytest.raises(RuntimeError, match="no memory"):
            check(gains, own, parts)
    check(gains, own, parts)


@pytest.mark.parametrize("dtype", [SHELVED, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 3, 40])
def test_a_layer_may_read_a_view(length: int, dtype: torch.dtype) -> None:
    gains, own = loaded(1, dtype)
    adapter = next(iter(own))
    gains.begin(groups([(adapter, length)]), length)
    x = torch.randn(TARGETS[0].inputs, length).to(dtype).t()
    found, whole = torch.zeros(2, length, 16, dtype=dtype)
    gains.add(0, x, found)
    gains.add(0, x.contiguous(), whole)
    assert torch.equal(found, whole)
    assert bool(found.any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_does_not_fit_the_factors_is_not_read(dtype: torch.dtype) -> None:
    gains, own = loaded(1, dtype)
    gains.begin(groups([(next(iter(own)), 2)]), 2)
    other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
    for x, y in (
        (torch.ones(2, 6, dtype=other), torch.ones(2, 16, dtype=other)),
        (torch.ones(2, 6, dtype=dtype), torch.ones(2, 16, dtype=other)),
        (torch.ones(2, 5, dtype=dtype), torch.ones(2, 16, dtype=dtype)),
        (torch.ones(2, 6, dtype=dtype), torch.ones(2, 15, dtype=dtype)),
        (torch.ones(2, 6, dtype=dtype), torch.ones(1, 16, dtype=dtype)),
        (torch.ones(2, 6, dtype=dtype), torch.ones(16, 2, dtype=dtype).t()),
    ):
        with pytest.raises(RuntimeError, match="adapters do not"):
            gains.add(0, x, y)


def test_an_adapter_of_other_layers_is_refused() -> None:
    gains, _ = loaded(1)
    with pytest.raises(OutcropError, match="no linear layer head"):
        gains.lay_out("stranger", LoraAdapter(2, 1.0, {"head": Factors(torch.zeros(2, 6), torch.zeros(8, 2), 1.0)}))
