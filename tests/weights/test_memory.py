"""Memory: what control groups leave, what weights need, and the sentences of who has too little."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from outcrop.errors import OutcropError
from outcrop.records import TrainSpec
from outcrop.sources import memory
from outcrop.sources.look import look
from outcrop.sources.memory import Memory
from outcrop.train.memory import require_memory
from outcrop.train.run import main
from outcrop.weights import choose_dtype, load_config
from tests.weights.vast import make_vast

MEMINFO = "MemTotal:  20000 kB\nMemFree: 1 kB\nMemAvailable:  9000 kB\nSwapTotal: 1000 kB\nSwapFree: 500 kB\n"
K = 1024


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A /proc and a /sys of one's own."""
    for name, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_group_the_machine_counts(tmp_path: Path) -> None:
    assert memory.here(system(tmp_path, "", {})) == Memory(9500 * K, 21000 * K)
    assert memory.here(system(tmp_path, "0::/\n", {})) == Memory(9500 * K, 21000 * K)
    real = memory.here()
    assert 0 < real.free <= real.total


def test_every_group_above_a_process_limits_it(tmp_path: Path) -> None:
    top = "sys/fs/cgroup"
    files = {
        f"{top}/box/memory.max": str(8000 * K),
        f"{top}/box/memory.current": str(5000 * K),
        f"{top}/box/memory.stat": f"anon 1\ninactive_file {2000 * K}\nactive_file 7\n",
        f"{top}/box/inner/memory.max": "max\n",
        f"{top}/box/inner/memory.current": str(4000 * K),
    }
    # Pages of files that nobody uses are given back when memory is asked for.
    assert memory.here(system(tmp_path, "0::/box/inner\n", files)) == Memory(5000 * K, 8000 * K)
    # In a container the path is often the host's, and the limit stands at the top.
    seen = {f"{top}/memory.max": str(3000 * K), f"{top}/memory.current": str(4000 * K)}
    assert memory.here(system(tmp_path / "container", "0::/host/path\n", seen)) == Memory(0, 3000 * K)


def test_the_older_kind_of_groups_is_read_too(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory/box"
    files = {
        f"{top}/memory.limit_in_bytes": str(6000 * K),
        f"{top}/memory.usage_in_bytes": str(5000 * K),
        f"{top}/memory.stat": f"total_inactive_file {1000 * K}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
    }
    assert memory.here(system(tmp_path, "4:memory:/box\n1:cpu:/\n0::/\n", files)) == Memory(2000 * K, 6000 * K)


def test_needs_are_those_of_the_tensors(bundled: Path) -> None:
    seen = look(bundled, "bundled:text")
    assert seen.parameters == 5_311_232
    assert seen.lora_parameters(16) == 409_600
    assert memory.serving(seen, 2) == 2 * 5_311_232 + memory.PROCESS
    assert memory.training(seen, "lora", 16, 2) == 2 * 5_311_232 + 16 * 409_600 + memory.PROCESS
    assert memory.training(seen, "full", 16, 2) == 16 * 5_311_232 + memory.PROCESS


def test_the_dtype_is_the_one_that_will_be_chosen(bundled: Path) -> None:
    chosen = choose_dtype(load_config(bundled), "auto", "cpu")
    assert memory.number_bytes(look(bundled, "x").width) == chosen.itemsize
    assert memory.number_bytes(64) == 4


def spec_of(base: Path, method: str) -> TrainSpec:
    return TrainSpec(
        "arn", "job", "amazon.titan-text-lite-v1:0:4k", str(base), "hf:big/one", "s3://b/t", "s3://b", method=method
    )


def test_a_sentence_says_what_is_needed_and_what_helps(bundled: Path) -> None:
    full = spec_of(bundled, "full")
    require_memory(full, Memory(600 << 20, 700 << 20))
    with pytest.raises(OutcropError) as caught:
        require_memory(full, Memory(320 << 20, 700 << 20))
    assert str(caught.value) == (
        "Too little memory: to train all weights of hf:big/one takes at least 353 MB, and this machine has 336 MB free "
        "of 734 MB. What helps: the hyperparameter method=lora, which takes at least 286 MB; or smaller weights "
        "(`outcrop models use`); or ending what else uses memory here; or a larger machine"
    )
    with pytest.raises(OutcropError, match="to train a LoRA adapter of hf:big/one takes at least 286 MB") as caught:
        require_memory(spec_of(bundled, "lora"), Memory(250 << 20, 700 << 20))
    assert "method=lora" not in str(caught.value)


def test_a_job_of_too_large_weights_fails_before_anything_is_fetched(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vast = make_vast(tmp_path / "vast", bundled, 4 * 10**11)
    job = tmp_path / "job"
    job.mkdir()
    spec = {name: getattr(spec_of(vast, "lora"), name) for name in ("job_arn", "job_id", "base_model_id", "base")}
    more = {"base_name": "hf:big/one", "training": "s3://b/t", "output": "s3://b", "method": "lora"}
    (job / "spec.json").write_text(json.dumps({**spec, **more}))
    # Nobody listens there: a job that asked for its data would wait instead of failing.
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert main([str(job)]) == 0
    events = [json.loads(line) for line in (job / "events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "failed"
    # 800 GB of bfloat16 or 1,600 of float32, and the adapter.
    said = r"Too little memory: to train a LoRA adapter of hf:big/one takes at least (902|1702)\.7 GB, and this"
    assert re.match(said, events[-1]["message"])
    assert events[-2]["kind"] == "part"
    assert events[-2]["status"] == "Failed"


def test_an_engine_of_too_large_weights_says_so(bundled: Path, tmp_path: Path) -> None:
    vast = make_vast(tmp_path / "vast", bundled, 4 * 10**11)
    command = ["--weights", str(vast), "--name", "base", "--ready", str(tmp_path / "ready")]
    with subprocess.Popen(
        [sys.executable, "-m", "outcrop.engines.host", *command],
        stdin=subprocess.PIPE,  # held open: an engine ends with it
        stderr=subprocess.PIPE,
        text=True,
    ) as engine:
        assert engine.stderr is not None
        said = engine.stderr.read()
        assert engine.wait(60) == 1
    assert re.search(rf"Too little memory: to serve {vast} takes at least (800|1600)\.3 GB", said)
    assert "Traceback" not in said
    assert not (tmp_path / "ready").exists()
