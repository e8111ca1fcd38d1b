"""Room for the largest step: as usual where there is enough, with layers computed again, or refused with figures."""

import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MambaConfig, PretrainedConfig

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec
from outcrop.sources.fit import Fit, fit
from outcrop.sources.look import look
from outcrop.sources.memory import Memory, gigabytes
from outcrop.train import recompute
from outcrop.train.memory import allowed
from outcrop.train.room import make_room, manner_of, unreckoned
from outcrop.train.text import TextLearner, load_learner
from tests.train.work import Start, small_job

TIGHT = """
import sys
from outcrop.sources import fit
from outcrop.sources.memory import Memory
from outcrop.train import room
from outcrop.train.leave import leave
from outcrop.train.run import main
fit.WORTH = 1.0
room.allowed = lambda on_gpu: Memory(int(sys.argv[2]), 10**10)
leave(main([sys.argv[1]]))
"""
"""A training child that believes that it may have so many bytes, and that whatever is spared is worth it."""


def plan_of(lengths: list[int], batch_size: int) -> Plan:
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    scored = (np.arange(offsets[-1]) % 2).astype(np.uint8)
    scored[offsets[:-1]] = 0
    tokens = (np.arange(offsets[-1]) * 7 % 300).astype(np.int32)
    return Plan(Shard(tokens, scored, offsets, offsets[:-1], np.diff(offsets)), (), 1, batch_size, seed=0)


def saved(folder: Path, config: PretrainedConfig) -> Path:
    """A model of that shape with weights drawn at random, on disk."""
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def llama_of(width: int, layers: int, **more: int) -> LlamaConfig:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaConfig(hidden_size=width, num_hidden_layers=layers, **heads, **more)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Narrow and deep: of a long example the activations are most of what is held."""
    shape = llama_of(64, 40, vocab_size=320, intermediate_size=192, max_position_embeddings=4096)
    return saved(tmp_path_factory.mktemp("deep"), shape)


def spec_of(base: Path, method: str = "lora") -> TrainSpec:
    return TrainSpec("arn", "job", "m.v1:0:8k", str(base), "hf:deep/one", "s3://b/t", "s3://b", method=method)


def learner_of(base: Path, plan: Plan, method: str = "lora") -> TextLearner:
    return load_learner(base, plan, method=method, rank=16, alpha=32.0, seed=0, device="cpu")


def fit_of(base: Path, plan: Plan, learner: TextLearner, method: str = "lora") -> Fit:
    return fit(spec_of(base, method), look(base, "deep"), plan, manner_of(learner), Memory(1 << 50, 1 << 50))


def test_a_step_that_fits_is_left_as_it_is(base: Path) -> None:
    plan = plan_of([900] * 6, 4)
    learner = learner_of(base, plan)
    found = fit_of(base, plan, learner)
    assert make_room(spec_of(base), plan, learner, there=Memory(found.plain.most, 1 << 40)) is None
    assert not recompute.installed(learner.model)


def test_one_that_does_not_is_made_to_and_the_log_says_what_that_costs(base: Path) -> None:
    plan = plan_of([900] * 6, 4)
    learner = learner_of(base, plan)
    found = fit_of(base, plan, learner)
    assert found.pack.lengths == (900,) * 4
    said = make_room(spec_of(base), plan, learner, there=Memory(found.again.most, 8 * 10**9))
    assert said == (
        f"a step of 3,600 tokens at once (4 examples of up to 900) would hold about {gigabytes(found.plain.total)}, "
        f"and {gigabytes(found.again.most)} of 8.0 GB are free for it: layers are computed again on their way back, "
        f"which takes about {gigabytes(found.again.total)} and up to half more computing, and changes no result"
    )
    assert recompute.installed(learner.model)
    again = learner_of(base, plan)
    doubtful = make_room(spec_of(base), plan, again, there=Memory(found.again.total, 8 * 10**9))
    assert doubtful is not None
    assert doubtful.endswith("; memory may run out all the same")


def test_layers_are_not_computed_again_for_next_to_nothing(base: Path) -> None:
    plan = plan_of([12] * 6, 4)
    learner = learner_of(base, plan)
    found = fit_of(base, plan, learner)
    said = make_room(spec_of(base), plan, learner, there=Memory(found.plain.total, 1 << 40))
    assert said is not None
    assert said.endswith("are free for it: memory may run out")
    assert not recompute.installed(learner.model)


def test_one_that_cannot_is_refused_with_what_helps(base: Path) -> None:
    plan = plan_of([900] * 6, 4)
    learner = learner_of(base, plan)
    found = fit_of(base, plan, learner)
    little = Memory(found.again.least - 1, 8 * 10**9)
    with pytest.raises(OutcropError) as caught:
        make_room(spec_of(base), plan, learner, there=little)
    assert str(caught.value) == (
        f"Too little memory: to train a LoRA adapter of hf:deep/one, a step of 3,600 tokens at once (4 examples of up "
        f"to 900) takes about {gigabytes(found.again.total)} even with layers that are computed again on their way "
        f"back, and {gigabytes(little.free)} of 8.0 GB are free for it. What helps: shorter examples "
        "(maxSequenceLength): the longest of them has 900 tokens; or smaller weights (`outcrop models use`); or ending "
        "what else uses memory here; or a larger machine"
    )
    # What a run has learnt is not thrown away for it.
    said = make_room(spec_of(base), plan, learner, refuse=False, there=little)
    assert said is not None
    assert said.endswith("; memory may run out all the same")


def test_a_smaller_batch_is_named_where_it_helps(tmp_path: Path) -> None:
    # All logits of a pack are there at once, as they are bent.
    config = Gemma2Config(
        vocab_size=60_000, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=4096,
    )  # fmt: skip
    saved(tmp_path, config)
    plan = plan_of([1000] * 8, 4)
    learner = learner_of(tmp_path, plan)
    found = fit_of(tmp_path, plan, learner)
    with pytest.raises(OutcropError, match="a smaller batchSize: one such example alone takes about"):
        make_room(spec_of(tmp_path), plan, learner, there=Memory(found.again.least - 1, 1 << 40))


def test_a_single_example_is_not_helped_by_a_smaller_batch_and_lora_is_named(tmp_path: Path) -> None:
    saved(tmp_path, llama_of(1024, 2, vocab_size=32000, intermediate_size=1024, max_position_embeddings=5000))
    plan = plan_of([4500, 100] * 4, 2)
    learner = learner_of(tmp_path, plan, "full")
    assert fit_of(tmp_path, plan, learner, "full").pack.lengths == (4500,), "two do not go together"
    lora = fit_of(tmp_path, plan, learner).again.total
    assert lora < fit_of(tmp_path, plan, learner, "full").again.least
    with pytest.raises(OutcropError, match=r"a step of 4,500 tokens takes .* the hyperparameter method=lora") as caught:
        make_room(spec_of(tmp_path, "full"), plan, learner, there=Memory(lora, 1 << 40))
    assert "batchSize" not in str(caught.value)


def test_parts_that_nobody_reckons_are_named_and_not_judged(tmp_path: Path, base: Path) -> None:
    saved(tmp_path, MambaConfig(vocab_size=320, hidden_size=64, num_hidden_layers=2))
    plan = plan_of([30] * 4, 2)
    learner = load_learner(tmp_path, plan, method="full", rank=0, alpha=0.0, seed=0, device="cpu")
    spec = spec_of(tmp_path, "full")
    assert make_room(spec, plan, learner, there=Memory(1, 1)) is None
    said = unreckoned(spec)
    assert said is not None
    assert said.startswith("what a step of MambaForCausalLM holds is not reckoned")
    assert unreckoned(spec_of(base)) is None


def test_what_a_process_has_is_its_own_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.sources.memory.here", lambda: Memory(10**9, 10**10))
    before = allowed()
    with mmap.mmap(-1, 1 << 28, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for page in range(0, 1 << 28, mmap.PAGESIZE):
            held[page] = 1
        after = allowed()
    assert after.total == before.total == 10**10
    assert before.free > 10**9
    assert after.free - before.free > 200 << 20


def test_a_job_in_little_memory_says_so_and_makes_the_same_weights(
    start: Start, llama: Path, write_pairs: Callable[..., Path]
) -> None:
    start.shelf.objects["bucket/train.jsonl"] = write_pairs(24).read_bytes()
    spec = small_job(llama, epochs=2)
    usual, tight = start(spec, "usual"), start(replace(spec, job_id="tight"), "tight")
    usual.live()
    logs = lives_with(tight, 420 << 20)
    assert not any("computed again" in event["message"] for event in usual.events() if event["kind"] == "log")
    assert [event["level"] for event in logs if "layers are computed again" in event["message"]] == ["warning"]
    one, other = ((work.directory / "model/adapter_model.safetensors").read_bytes() for work in (usual, tight))
    assert one == other


def test_a_job_that_cannot_fit_fails_with_a_sentence(
    start: Start, llama: Path, write_pairs: Callable[..., Path]
) -> None:
    start.shelf.objects["bucket/train.jsonl"] = write_pairs(24).read_bytes()
    work = start(small_job(llama))
    lives_with(work, 100 << 20)
    assert work.events()[-1]["kind"] == "failed"
    assert work.events()[-1]["message"].startswith(
        "Too little memory: to train a LoRA adapter of a small llama, a step of"
    )


def lives_with(work: Any, free: int) -> list[dict[str, Any]]:
    """A whole life in so much memory; the log's events."""
    command = [sys.executable, "-c", TIGHT, str(work.directory), str(free)]
    done = subprocess.run(command, env=os.environ | work._environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [event for event in work.events() if event["kind"] == "log"]
