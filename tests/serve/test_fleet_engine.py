"""The fleet with its real engine: small real models from disk to an answer, Llama and Qwen, adapter and whole."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outcrop.errors import ValidationException
from outcrop.serve import process
from outcrop.serve.own import PROGRAM
from tests.engines.tiny import write_adapter, write_llama, write_qwen
from tests.serve.fleet_world import World, alive, prompt, until
from tests.store.resources import BASE_ARN, LONG_ID, REGION


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Llama behind the base's id."""
    root = tmp_path_factory.mktemp("real")
    world = World(root, program=PROGRAM, on_demand_wait=60.0)
    shutil.rmtree(world.base)
    write_llama(world.base)
    world.fleet.start()
    yield world
    pids = world.pids()
    assert pids
    world.close()
    until(lambda: not any(alive(pid) for pid in pids))


def ask(world: World, target: str, text: str = "the order") -> str:
    return world.ask(target, text, max_tokens=30, temperature=0.0)


def streamed(world: World, target: str) -> str:
    async def collect() -> str:
        with world.fleet.lease(target, REGION, 1) as lease:
            asked = prompt("the order", max_tokens=30, temperature=0.0)
            return "".join([piece.text async for piece in lease.line.stream(lease.model, asked)])

    return asyncio.run(collect())


def test_base_adapter_and_whole_model_each_answer_as_themselves(real: World) -> None:
    adapted, whole = real.model(1), real.model(2, method="full")
    write_adapter(real.base, real.root / "models" / adapted.id, seed=3)
    shutil.rmtree(real.root / "models" / whole.id)
    write_qwen(real.root / "models" / whole.id)
    with ThreadPoolExecutor(2) as pool:
        arns = list(pool.map(lambda pair: real.provision(*pair), [(1, adapted.arn), (2, whole.arn)]))
    until(lambda: all(real.throughput(arn).status != "Creating" for arn in arns), 120)
    assert [real.throughput(arn).failure for arn in arns] == [None, None]
    targets = [LONG_ID, *arns]
    answers = [ask(real, target) for target in targets]
    assert len(set(answers)) == 3
    assert [streamed(real, target) for target in targets] == answers
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(lambda target: ask(real, target), targets * 6)) == answers * 6


def test_a_prompt_beyond_the_context_is_refused_with_the_figures(real: World) -> None:
    with pytest.raises(ValidationException, match="Max input tokens: 95, request input token count: 501"):
        ask(real, LONG_ID, "~" * 500)


def test_a_killed_engine_comes_back_with_its_adapters(real: World) -> None:
    custom = real.model(3)
    write_adapter(real.base, real.root / "models" / custom.id, seed=4)
    arn = real.provision(3, custom.arn)
    until(lambda: real.throughput(arn).status == "InService", 120)
    before = ask(real, arn)
    [pid] = real.pids(real.base)
    os.kill(pid, signal.SIGKILL)
    until(lambda: real.pids(real.base) not in ([], [pid]), 30)
    assert ask(real, arn) == before


def test_weights_that_do_not_run_fail_with_the_engine_s_own_words(tmp_path: Path) -> None:
    world = World(tmp_path, program=PROGRAM)
    world.fleet.start()
    try:
        arn = world.provision(1, BASE_ARN)
        until(lambda: world.throughput(arn).status == "Failed", 120)
        assert "no causal language model in Hugging Face layout" in str(world.throughput(arn).failure)
        assert "Traceback" not in str(world.throughput(arn).failure)
    finally:
        world.close()


def test_an_engine_that_loads_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 600.0)
    world = World(tmp_path, program=PROGRAM)
    world.fleet.start()
    world.provision(1, BASE_ARN)
    until(world.pids)
    pids = world.pids()
    world.close()
    assert not any(alive(pid) for pid in pids)
