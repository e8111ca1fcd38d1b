"""What a run lacks is told or waited for, and its checkpoints stay good: disk, memory, sound numbers, storage.

The full disk is a real one (a tmpfs, which takes a right to mount), the memory is the system's own limit.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from outcrop.records import TrainSpec
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.start import work_key
from tests.train.conftest import write_tokenizer
from tests.train.nursery import Nursery
from tests.train.shelf import Shelf
from tests.train.work import PATIENCE, Start, Work, small_job

DISK: int = 64 << 20


@pytest.fixture
def spec(llama: Path, shelf: Shelf, write_pairs: Callable[..., Path]) -> TrainSpec:
    shelf.objects["bucket/train.jsonl"] = write_pairs(30).read_bytes()
    return small_job(llama, epochs=8, checkpoint_seconds=1e-9)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "outcrop-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a full disk takes the right to mount one (as root: make test): {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Take all room of a disk but so many bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
        if leave:
            file.truncate(file.tell() - leave)
    return filler


def messages(job: Work) -> list[str]:
    return [event["message"] for event in job.events() if event["kind"] in {"log", "failed"}]


def losses(events: list[dict[str, Any]]) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in events if event["kind"] == "step"}


def good_checkpoint(job: Work) -> int:
    """The step of the checkpoint that a next life would take, and nothing to say about it."""
    told: list[str] = []
    found = Checkpoints(job.directory / "checkpoint", work_key(job.directory)).load(told.append)
    assert found is not None
    assert told == []
    return found.step


@pytest.mark.slow
def test_a_disk_that_fills_up_is_waited_for_and_costs_no_bit(
    spec: TrainSpec, shelf: Shelf, nursery: Nursery, small_disk: Path
) -> None:
    start = Start(small_disk, shelf, nursery)
    whole = start(spec, "whole")
    expected = whole.run()
    torn = start(spec, "torn")
    # Outside the disk, as a service's log is: it is the one place where a full disk can be told.
    log = small_disk.parent / "log.txt"
    log.touch()
    (torn.directory / "log.txt").symlink_to(log)
    child = torn.stands_still("os.mkdir", "checkpoint/.draft", 9)
    filler = fill(small_disk)
    child.send_signal(signal.SIGCONT)
    torn.wait_for(lambda: "the disk is full: the job waits for room" in log.read_text(), child)
    steps = torn.steps()
    assert good_checkpoint(torn) > 0
    time.sleep(0.5)
    assert (torn.steps(), child.poll()) == (steps, None)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child = torn.fork()
    time.sleep(0.5)
    filler.unlink()
    assert child.wait(timeout=PATIENCE) == 0, log.read_text()
    events = torn.events()
    assert events[-1]["kind"] == "done"
    assert losses(events) == losses(expected)
    name = "model/adapter_model.safetensors"
    assert (torn.directory / name).read_bytes() == (whole.directory / name).read_bytes()


@pytest.mark.slow
def test_a_delivery_waits_for_room(spec: TrainSpec, shelf: Shelf, nursery: Nursery, small_disk: Path) -> None:
    job = Start(small_disk, shelf, nursery)(spec)
    child = job.stands_still("os.mkdir", "checkpoint/.draft", 9)
    filler = fill(small_disk, leave=8 << 20)
    child.send_signal(signal.SIGCONT)
    job.wait_for(lambda: any("the finished weights need" in message for message in messages(job)), child)
    assert job.steps() == 64
    assert good_checkpoint(job) == 64
    assert "This is waited for: free some space, and the job goes on" in messages(job)[-1]
    filler.unlink()
    assert child.wait(timeout=PATIENCE) == 0
    assert job.events()[-1]["kind"] == "done"


@pytest.mark.slow
def test_memory_that_runs_out_is_named_and_the_next_life_may_have_it(
    spec: TrainSpec, start: Start, shelf: Shelf, tmp_path: Path
) -> None:
    base = tmp_path / "wide"
    base.mkdir()
    size = write_tokenizer(base, begin=True)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=1 << 15, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(base)
    pair = {"prompt": "where is it? " * 250, "completion": "of course"}
    shelf.objects["bucket/long.jsonl"] = json.dumps(pair).encode()
    short = start(replace(spec, base=str(base), epochs=1), "short")
    child, most = short.start(), 0
    while child.poll() is None:
        most = max(most, _address_space(child.pid))
        time.sleep(0.01)
    assert child.returncode == 0, short.log()
    long = start(replace(spec, base=str(base), epochs=1, training="s3://bucket/long.jsonl"), "long")
    child = long.start(limit=most + (100 << 20))
    assert child.wait(timeout=PATIENCE) == 75, long.log()
    assert long.log().splitlines()[-1].startswith("Ran out of memory (")
    assert "shorter examples (maxSequenceLength)" in long.log().splitlines()[-1]
    assert not {"failed", "done"} & {event["kind"] for event in long.events()}, "the next life may have it"
    assert long.live()[-1]["kind"] == "done"


def _address_space(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmPeak")), 0)


@pytest.mark.slow
def test_a_rate_that_no_weights_survive_fails_and_says_what_to_do(spec: TrainSpec, start: Start) -> None:
    job = start(replace(spec, method="full", learning_rate=1e30, warmup_steps=0, schedule="constant"))
    message = job.live()[-1]["message"]
    assert message.startswith("the loss is no longer a number at step ")
    assert message.endswith("the run diverged; use a smaller learningRate")
    assert good_checkpoint(job) > 0


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_blamed_and_not_the_rate(
    spec: TrainSpec, start: Start, llama: Path, tmp_path: Path
) -> None:
    base = tmp_path / "damaged"
    base.mkdir()
    for path in llama.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.inf
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    message = start(replace(spec, base=str(base))).live()[-1]["message"]
    assert "the loss is no number before anything was learnt" in message
    assert "the weights that the job starts from are damaged" in message


def test_storage_that_is_away_at_first_is_waited_for(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    shelf.close()
    job = start(replace(spec, epochs=1))
    child = job.fork()
    job.wait_for(lambda: any("storage does not answer" in message for message in messages(job)), child)
    shelf.open()
    assert child.wait(timeout=PATIENCE) == 0
    assert job.events()[-1]["kind"] == "done"
    assert (job.directory / "model").is_dir()
