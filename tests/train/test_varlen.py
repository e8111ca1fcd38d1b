"""One call for segments of any lengths: against a call for each, whole models, and what torch's kernel really takes.

Here is no GPU: a plain kernel of the same signature stands for torch's. What needs one is marked `cuda`.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen as torchs
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from outcrop.train import attention, varlen
from outcrop.train.layout import Layout
from outcrop.train.text import Packed, TextLearner, pack
from tests.train.cumulative import reference
from tests.train.labels import per_label
from tests.train.test_shared_beginnings import CPU, KINDS, SHAPE, learner_of, plan_of

CUDA = torch.device("cuda")
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def rows(dtype: torch.dtype, total: int, counts: tuple[int, ...], width: int = 16) -> list[Tensor]:
    """As models make them: heads within tokens, so that a head's own numbers lie apart."""
    return [torch.randn(total, count, width).to(dtype) for count in counts]


def outcome(attention: Callable[[Any], Tensor], given: list[Tensor], along: Tensor) -> list[Tensor]:
    """The answers, and the gradients of query, key and value."""
    leaves = [one.clone().requires_grad_() for one in given]
    out = attention(tuple(one.transpose(0, 1) for one in leaves))
    return [out.detach(), *torch.autograd.grad(out, leaves, along)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("window", [None, 1, 4, 1000])
@pytest.mark.parametrize("shared", [0, 1, 6])
@pytest.mark.parametrize("segments", [(1,), (7, 3, 3, 12), (5, 5)])
def test_one_call_says_what_a_call_for_each_says(  # noqa: PLR0917
    segments: tuple[int, ...], shared: int, window: int | None, heads: int, kv_heads: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(sum(segments) + heads)
    given = rows(dtype, shared + sum(segments), (heads, kv_heads, kv_heads))
    along = torch.randn(given[0].shape).to(dtype)
    how: dict[str, Any] = {"segments": segments, "scale": 0.3, "shared": shared, "window": window}
    found = outcome(partial(varlen.attention, **how, by=reference), given, along)
    exact = outcome(partial(attention.by_length, **how), [one.double() for one in given], along.double())
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == dtype
        assert one.shape == other.shape
        assert (one.double() - other).abs().max() <= CLOSE[dtype] * max(1.0, float(other.abs().max()))


def test_gradients_of_what_is_shared_are_summed_in_float32() -> None:
    cuts = varlen.cut((1,) * 600, 1, CPU)
    assert cuts.spread is not None
    row = torch.ones(601, 1, 8, dtype=torch.bfloat16, requires_grad=True)
    laid = varlen._Spreading.apply(row, cuts.spread)  # type: ignore[no-untyped-call]
    assert laid.shape == (1201, 1, 8)
    (found,) = torch.autograd.grad(laid, row, torch.ones_like(laid))
    # One by one in bfloat16 they would stay at 256.
    assert found[0].unique().tolist() == [600.0]
    assert found[1:].unique().tolist() == [1.0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The stand-in in the place of a GPU's kernel; the lengths of each call."""
    taken = []

    def counted(*given: Any, **more: Any) -> Tensor:
        taken.append(tuple(given[3].diff().tolist()))
        return reference(*given, **more)

    monkeypatch.setattr(attention, "kernel_for", lambda query, key: counted)
    # Layers of transformers' own, as on a GPU.
    monkeypatch.setattr("outcrop.train.block.installable", lambda model: False)
    return taken


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "capped" not in kind])
def test_models_learn_the_same_by_one_call_a_layer(  # noqa: PLR0917
    kind: str, method: str, calls: list[tuple[int, ...]], qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(qwen, tmp_path)
    learner = learner_of(KINDS[kind](), plan, tmp_path / "base", method)
    assert learner.layout.alone is None
    for share in (False, True):
        batch = pack(plan.train, list(range(12)), CPU, share=share)
        calls.clear()
        by_one = label_costs_and_gradients(learner, batch)
        assert calls == [(batch.shared, *batch.segments) if share else batch.segments] * 2
        with monkeypatch.context() as patched:
            patched.setattr(attention, "kernel_for", lambda query, key: None)
            by_each = label_costs_and_gradients(learner, batch)
        assert len(calls) == 2
        for one, other in zip(by_one, by_each, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


def label_costs_and_gradients(learner: TextLearner, batch: Packed) -> list[Tensor]:
    nll = per_label(learner, batch)
    nll.sum().backward()  # type: ignore[no-untyped-call]
    found = [nll.detach(), *(one.grad.clone() for one in learner.parameters() if one.grad is not None)]
    for one in learner.parameters():
        one.grad = None
    return found


def test_what_flash_attention_cannot_do_goes_another_way(calls: list[tuple[int, ...]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, sliding_window=9))
    layout = Layout.of(capped.eval())
    assert layout.alone is None
    assert calls == []
    module = torch.nn.Module()
    module.config, module.layer_idx = LlamaConfig(**SHAPE), 0  # type: ignore[assignment]
    query, key, value = (torch.randn(1, count, 5, 8) for count in (4, 2, 2))
    attention.attend(module, query, key, value, None, segments=(2, 3), dropout=0.5)
    assert calls == []
    attention.attend(module, query, key, value, None, segments=(2, 3))
    assert calls == [(2, 3)]


def test_the_installed_torch_has_the_kernel_and_takes_what_it_is_given() -> None:
    assert varlen.kernel() is not None
    cuts = varlen.cut((3, 4), 2, CPU)
    given: list[Any] = [*rows(torch.bfloat16, 9, (4, 2, 2)), cuts.queries, cuts.keys, 4, 6]
    bound = inspect.signature(torchs.varlen_attn).bind(*given, scale=0.3, window_size=(-1, 0), enable_gqa=True)
    assert tuple(bound.arguments) == (*varlen.GIVEN, *varlen.BY_NAME, "enable_gqa")
    assert inspect.signature(reference).bind(*given, scale=0.3, window_size=(-1, 0)).arguments.keys() == {
        *varlen.GIVEN,
        *varlen.BY_NAME,
    }


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("shared", [0, 3])
def test_torchs_own_kernel_goes_forwards_and_backwards_on_shapes_alone(shared: int, window: int | None) -> None:
    """On the meta device, through torch's operators and their autograd: what they are called with, they take."""
    kernel = varlen.kernel()
    assert kernel is not None
    given = [one.to("meta").requires_grad_() for one in rows(torch.bfloat16, shared + 12, (4, 2, 2))]
    out = varlen.attention(
        tuple(one.transpose(0, 1) for one in given), (7, 5), 0.3, shared, window=window, by=kernel  # type: ignore[arg-type]
    )  # fmt: skip
    assert out.shape == given[0].shape
    found = torch.autograd.grad(out, given, torch.empty_like(out))
    assert [one.shape for one in found] == [one.shape for one in given]


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("shared", [0, 3])
def test_a_whole_model_goes_through_torchs_own_kernel_on_shapes_alone(
    shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device, where all is as on a GPU but for the numbers: those of a tried row, too."""
    monkeypatch.setattr(attention, "failing", lambda *given: None)
    monkeypatch.setattr(attention, "by_length", None)
    attention.register()
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE)).bfloat16()
        ids, places = torch.ones(1, shared + 12, dtype=torch.int64), torch.arange(shared + 12).unsqueeze(0)
    model.set_attn_implementation(attention.NAME)
    given = {"segments": (7, 5), **({"shared": shared} if shared else {})}
    logits = model(input_ids=ids, position_ids=places, use_cache=False, **given).logits
    assert logits.shape == (1, shared + 12, 300)
    logits.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape


def of_210(  # noqa: PLR0917
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: Any, max_k: Any, is_causal: Any
) -> Any:
    raise AssertionError("it cannot scale")


def of_211(  # noqa: PLR0917
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: Any, max_k: Any, *,
    return_aux: Any = None, scale: Any = None, window_size: Any = (-1, -1),
) -> Any:  # fmt: skip
    return scale


def test_kernels_of_other_torches_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchs, "varlen_attn", of_211)
    assert varlen.kernel() is of_211
    monkeypatch.setattr(torchs, "varlen_attn", of_210)
    assert varlen.kernel() is None
    assert "has no varlen_attn with a scale and a window" in str(varlen.doubt(CPU, torch.bfloat16, 64))
    monkeypatch.delattr(torchs, "varlen_attn")
    assert varlen.kernel() is None


def test_what_a_gpu_cannot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert varlen.doubt(CUDA, torch.bfloat16, 128) is None
    assert varlen.doubt(CUDA, torch.float16, 256) is None
    assert "bfloat16 and float16, not float32" in str(varlen.doubt(CUDA, torch.float32, 128))
    assert "not of 12" in str(varlen.doubt(CUDA, torch.bfloat16, 12))
    assert "not of 264" in str(varlen.doubt(CUDA, torch.bfloat16, 264))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "capability 8.0, this one has 7.5" in str(varlen.doubt(CUDA, torch.bfloat16, 128))


def aligned_to_the_first(*given: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
    """As if causality began with the first key: every query of a segment sees too little of what is shared."""
    query, key, value, queries, keys, *_ = given
    pieces = []
    for place, length in enumerate(queries.diff().tolist()):
        own = slice(int(queries[place]), int(queries[place + 1]))
        seen = slice(int(keys[place]), int(keys[place]) + length)
        cuts = torch.tensor([0, length], dtype=torch.int32)
        pieces.append(
            reference(
                query[own], key[seen], value[seen], cuts, cuts, length, length, scale=scale, window_size=window_size
            )
        )
    return torch.cat(pieces)


def blind_to_windows(*given: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
    return reference(*given, scale=scale, window_size=(-1, 0))


def without_gradients(*given: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
    return reference(*given, scale=scale, window_size=window_size).detach()


def forgetful_of_gradients(*given: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
    query, key, value, *rest = given
    return reference(query, key.detach() * 2 - key, value, *rest, scale=scale, window_size=window_size)


def failing(*given: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
    raise RuntimeError("CUDA error: no kernel image is available\nand more lines")


def not_a_number(*given: Any, scale: float, window_size: tuple[int, int]) -> Tensor:
    return reference(*given, scale=scale, window_size=window_size) * float("nan")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (8, 2)])
def test_a_kernel_that_says_the_truth_is_taken(heads: int, kv_heads: int, dtype: torch.dtype) -> None:
    with torch.no_grad():
        assert attention.failing(reference, CPU, dtype, heads, kv_heads, 64) is None


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (aligned_to_the_first, "is off by"),
        (blind_to_windows, "is off by"),
        (forgetful_of_gradients, "is off by"),
        (not_a_number, "is off by nan"),
        (without_gradients, "fails here: element 0 of tensors does not require grad"),
        (failing, "fails here: CUDA error: no kernel image is available"),
    ],
)
def test_a_kernel_that_does_not_is_not_taken_and_it_is_told(kernel: varlen.Kernel, said: str) -> None:
    reason = attention.failing(kernel, CPU, torch.bfloat16, 4, 2, 64)
    assert reason is not None
    assert said in reason
    assert "\n" not in reason


@pytest.fixture
def anew() -> Iterator[None]:
    """What was tried before is forgotten, and what is tried now afterwards."""
    attention.one_call.cache_clear()
    yield
    attention.one_call.cache_clear()


@pytest.mark.usefixtures("anew")
def test_the_way_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of models on the meta device, which is as little a CPU as a GPU is."""
    with torch.device("meta"):
        llama, gemma = LlamaForCausalLM(LlamaConfig(**SHAPE)), Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8))
    slow = "attended to in a call for each length, which is slower than one call for all: "
    layout = Layout(llama, None, keeps=True)
    assert layout.slower == layout.told == f"its examples are {slow}{varlen.doubt(CUDA, torch.float32, 8)}"
    assert attention.told(gemma) == f"its examples are {slow}flash attention does not cap scores"
    llama.bfloat16()
    monkeypatch.setattr(attention, "failing", lambda *given: "it is broken")
    assert str(layout.slower).endswith("it is broken")
    attention.one_call.cache_clear()
    monkeypatch.setattr(attention, "failing", lambda *given: None)
    assert layout.slower is None
    assert "in one call of flash attention" in str(layout.told)
    query, key, _ = (torch.empty(1, count, 5, 8, dtype=torch.bfloat16, device="meta") for count in (4, 2, 2))
    assert attention.kernel_for(query, key) is not None
    assert attention.kernel_for(query.to(torch.float32), key) is None
    assert Layout(llama, "it is odd", keeps=True).told is None
    on_cpu = LlamaForCausalLM(LlamaConfig(**SHAPE))
    assert (attention.told(on_cpu), attention.slower(on_cpu)) == (None, None)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: pytest -m cuda")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(32, 8, 128), (14, 2, 64), (4, 1, 256)])
@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("shared", [0, 77])
def test_a_gpu_says_in_one_call_what_segments_say_in_float32(  # noqa: PLR0917
    shared: int, window: int | None, heads: int, kv_heads: int, width: int, dtype: torch.dtype
) -> None:
    kernel, reason = attention.one_call(CUDA, dtype, heads, kv_heads, width)
    assert reason is None
    assert kernel is not None
    torch.manual_seed(0)
    segments = (1, 640, 40, 129, 129, 300)
    given = [one.to(CUDA) for one in rows(dtype, shared + sum(segments), (heads, kv_heads, kv_heads), width)]
    along = torch.randn(given[0].shape).to(CUDA, dtype)
    how: dict[str, Any] = {"segments": segments, "scale": width**-0.5, "shared": shared, "window": window}
    found = outcome(partial(varlen.attention, **how, by=kernel), given, along)
    exact = outcome(partial(attention.by_length, **how), [one.float() for one in given], along.float())
    for one, other in zip(found, exact, strict=True):
        assert (one.float() - other).abs().max() <= CLOSE[dtype] * max(1.0, float(other.abs().max()))
