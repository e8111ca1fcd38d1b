"""Steps that read prompts get all cores, those of a small model's answers one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from outcrop.engines import host, threads
from outcrop.engines.batch import Batch
from outcrop.engines.cache import Cache
from outcrop.records import Prompt


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("told", "small", "expected"), [("0", True, (3, 1)), ("0", False, (3, 3)), ("2", True, (2, 2))]
)
def test_an_engines_cores(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, told: str, small: bool, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(host, "SMALL", 10**9 if small else 1)
    given = ["--weights", str(tiny_llama), "--name", "base", "--ready", str(tiny_llama / "never"), "--threads", told]
    engine = host.load(host.arguments().parse_args(given))
    run, seen = engine._model.run, []

    def watched(batch: Batch, cache: Cache) -> torch.Tensor:
        seen.append((batch.rows >= threads.MANY, torch.get_num_threads()))
        return run(batch, cache)

    monkeypatch.setattr(engine._model, "run", watched)
    ended: list[str] = []
    engine.submit(
        "base", Prompt("the order " * 20, max_tokens=3, temperature=0), lambda out: ended.append(out.finish or "")
    )
    while not any(ended):
        engine.step()
    assert set(seen) == {(True, expected[0]), (False, expected[1])}
