"""An engine's steps run on as many threads as it was told, whichever thread steps."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from outcrop.engines import host
from outcrop.engines.batch import Batch
from outcrop.engines.cache import Cache
from outcrop.records import Prompt


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("told", "expected"), [("0", 3), ("2", 2)])
def test_an_engines_cores(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, told: str, expected: int) -> None:
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {0, 1, 2})
    given = ["--weights", str(tiny_llama), "--name", "base", "--ready", str(tiny_llama / "never"), "--threads", told]
    engine = host.load(host.arguments().parse_args(given))
    run, seen, ended = engine._model.run, set(), threading.Event()

    def watched(batch: Batch, cache: Cache) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return run(batch, cache)

    monkeypatch.setattr(engine._model, "run", watched)
    prompt = Prompt("the order " * 20, max_tokens=3, temperature=0)
    engine.submit("base", prompt, lambda output: ended.set() if output.finish else None)
    thread = threading.Thread(target=engine.run)
    thread.start()
    assert ended.wait(60)
    engine.end()
    thread.join()
    assert seen == {expected}
