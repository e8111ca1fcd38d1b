"""How fast a dataset is checked: ours beside the json module, pydantic models and the published validators' approach.

    python -m benchmarks.check [--mb 64] [--rounds 5] [--quick]
    python -m benchmarks.check --memory 256 1024 2048      # resident memory by size of the file; 10240 is 10 GB

Every checker reads the same generated files to the last line, in a process of its own, all in turn in every round (A B
C D A B C D …), after a pass over a small file; figures are medians. Processor time is given beside wall time, because
other work may share the machine: then both grow, wall time more. What they do is not the same: `json` only parses,
`pydantic` parses into models and so finds wrong shapes, `validators` is what AWS's sample notebooks do line by line
(json.loads, a pydantic model, roles, lengths), stopping at no fault and knowing no column. Ours also hashes the file,
and finds duplicate members, places of faults, lengths, repeated records and contradictions. Writes results/check.json.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.machine import machine
from outcrop.datasets.check import check_file
from outcrop.records import Limits

RESULT: Final = Path(__file__).parent / "results" / "check.json"
LINES: Final = (130, 500, 2000)
"""Bytes a line: short intents, usual examples, long ones."""
UNIT: Final = 64
"""MB that are written over and over where memory is measured."""
LIMITS: Final = Limits(max_total_tokens=32_000, characters_per_token=3)
TARGETS: Final = {"prompt-completion": 400, "messages": 250}
"""MB/s a core that the project asks of itself."""


class Pair(BaseModel):
    """A prompt/completion record."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prompt: str = Field(min_length=1)
    completion: str = Field(min_length=1)


class Message(BaseModel):
    """A message of plain text."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["user", "assistant"]
    content: str = Field(min_length=1)


class Messages(BaseModel):
    """A conversation of plain messages."""

    model_config = ConfigDict(extra="forbid", strict=True)
    system: str | None = None
    messages: list[Message] = Field(min_length=2)


MODELS: Final[dict[str, type[BaseModel]]] = {"prompt-completion": Pair, "messages": Messages}


def ours(path: Path, shape: str) -> int:
    """The whole report."""
    return check_file(path, shape, LIMITS, "train").accepted


def json_module(path: Path, _shape: str) -> int:
    """Nothing but parsing."""
    good = 0
    with path.open("rb") as file:
        for line in file:
            try:
                json.loads(line)
                good += 1
            except ValueError:
                continue
    return good


def pydantic_models(path: Path, shape: str) -> int:
    """Each line into a model by pydantic's own JSON reader."""
    model = MODELS[shape]
    good = 0
    with path.open("rb") as file:
        for line in file:
            try:
                model.model_validate_json(line)
                good += 1
            except ValidationError:
                continue
    return good


def validators(path: Path, shape: str) -> int:
    """As the published validators go about it: json.loads, a model, then rules and lengths in Python, line by line."""
    model = MODELS[shape]
    good = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                record = model(**json.loads(line))
            except (ValueError, TypeError):
                continue
            if isinstance(record, Messages):
                roles = [message.role for message in record.messages]
                if roles != ["user", "assistant"] * (len(roles) // 2):
                    continue
            good += len(line) // LIMITS.characters_per_token <= (LIMITS.max_total_tokens or 0)
    return good


CHECKERS: Final[dict[str, Callable[[Path, str], int]]] = {
    "outcrop": ours,
    "json": json_module,
    "pydantic": pydantic_models,
    "validators": validators,
}


def lines(shape: str, size: int, seed: int = 0) -> Iterator[bytes]:
    """Endless records of English-like words, as json.dumps writes them, of about `size` bytes each; no two alike."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("etaoinshrdlucmfwyp", k=draw.randint(2, 9))) for _ in range(5000)]

    def text(characters: float) -> str:
        parts = " ".join(draw.choices(words, k=int(characters / 3)))
        return (
            parts[: max(1, round(characters))]
            if characters < 200
            else parts[: round(characters) - 16] + '.\nThe "end".'
        )

    while True:
        if shape == "prompt-completion":
            room = size - 36
            record: dict[str, Any] = {"prompt": text(room * 0.7), "completion": text(room * 0.3)}
        else:
            turns = 2 if size < 300 else draw.choice((2, 4, 6))
            room = size - 17 - 41 * turns
            roles = ("user", "assistant") * (turns // 2)
            record = {"messages": [{"role": role, "content": text(room / turns)} for role in roles]}
        yield json.dumps(record).encode() + b"\n"


def generate(path: Path, shape: str, size: int, total: int) -> None:
    """Write a file of `total` bytes or a line more."""
    with path.open("wb") as file:
        written = 0
        for line in lines(shape, size):
            if written >= total:
                break
            file.write(line)
            written += len(line)


def feed(pipe: Path, unit: Path, times: int) -> None:
    """Write a file into a pipe over and over."""
    with pipe.open("wb") as to:
        for _ in range(times):
            with unit.open("rb") as file:
                shutil.copyfileobj(file, to, 2**20)


def one(checker: str, path: Path, shape: str) -> dict[str, float]:
    """Run one checker in this process and say what it took."""
    warm = path.with_name("warm.jsonl")
    CHECKERS[checker](warm, shape)
    before = peak_rss()
    wall, processor = time.perf_counter(), time.process_time()
    good = CHECKERS[checker](path, shape)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"wall": wall, "processor": processor, "good": good, "peak_mb": peak_rss(), "before_mb": before}


def peak_rss() -> float:
    """The most memory in MB that this process had; unlike getrusage's, it knows nothing of the process's parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def apart(checker: str, path: Path, shape: str) -> dict[str, float]:
    """Run one checker in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.check", "--one", checker, str(path), shape]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    result: dict[str, float] = json.loads(found.stdout)
    return result


def compare(folder: Path, shape: str, size: int, megabytes: int, rounds: int) -> dict[str, Any]:
    """All checkers over one file, in turn."""
    path = folder / f"{shape}-{size}.jsonl"
    generate(path, shape, size, megabytes * 10**6)
    generate(path.with_name("warm.jsonl"), shape, size, 10**6)
    total = path.stat().st_size
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CHECKERS}
    for _ in range(rounds):
        for name in CHECKERS:
            runs[name].append(apart(name, path, shape))
    assert len({run["good"] for found in runs.values() for run in found}) == 1, "the checkers disagree on good data"
    records = int(runs["outcrop"][0]["good"])
    path.unlink()
    checkers = {name: _figures(found, total) for name, found in runs.items()}
    return {
        "format": shape,
        "bytes": total,
        "records": records,
        "bytes_per_line": round(total / records, 1),
        "target_mb_per_s": TARGETS[shape],
        "checkers": checkers,
    }


def _figures(runs: list[dict[str, float]], total: int) -> dict[str, float]:
    def rate(name: str) -> float:
        return round(total / statistics.median(run[name] for run in runs) / 1e6, 1)

    return {
        "mb_per_s_processor": rate("processor"),
        "mb_per_s_wall": rate("wall"),
        "mb_per_s_processor_best": round(total / min(run["processor"] for run in runs) / 1e6, 1),
        "peak_rss_mb": round(max(run["peak_mb"] for run in runs), 1),
        "rss_before_mb": round(max(run["before_mb"] for run in runs), 1),
    }


def memory(folder: Path, megabytes: list[int]) -> list[dict[str, Any]]:
    """Peak resident memory of our check by the size of what it reads, at the shortest lines: most records a byte.

    The data come through a pipe, the same 64 MB over and over, so that 10 GB need no disk.
    """
    unit, pipe = folder / "unit.jsonl", folder / "pipe"
    generate(unit, "prompt-completion", LINES[0], UNIT * 10**6)
    generate(folder / "warm.jsonl", "prompt-completion", LINES[0], 10**6)
    os.mkfifo(pipe)
    found = []
    for size in megabytes:
        times = max(1, size // UNIT)
        feeder = threading.Thread(target=feed, args=(pipe, unit, times), daemon=True)
        feeder.start()
        run = apart("outcrop", pipe, "prompt-completion")
        feeder.join()
        found.append(
            {
                "mb": round(unit.stat().st_size * times / 1e6),
                "records": int(run["good"]),
                "peak_rss_mb": round(run["peak_mb"], 1),
                "seconds": round(run["wall"], 1),
            }
        )
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=64, help="size of each file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+", metavar="MB", help="measure memory only, at these sizes")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--one", nargs=3, metavar=("CHECKER", "FILE", "FORMAT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        checker, path, shape = asked.one
        print(json.dumps(one(checker, Path(path), shape)))
        return
    result: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="outcrop-check-") as name:
        if asked.memory:
            result["memory"] = memory(Path(name), asked.memory)
        else:
            result["machine"] = machine("outcrop", "numpy", "msgspec", "pydantic")
            result["load_at_start"] = os.getloadavg()[0]
            result["rounds"] = asked.rounds
            result["speed"] = []
            for shape in TARGETS:
                for size in LINES:
                    result["speed"].append(compare(Path(name), shape, size, asked.mb, asked.rounds))
                    print(json.dumps(result["speed"][-1]), flush=True)
            result["load_at_end"] = os.getloadavg()[0]
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
