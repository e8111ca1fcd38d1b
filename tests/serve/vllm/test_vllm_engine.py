"""vLLM as a row's engine, by a stand-in that speaks its verbs: what it answers, and what is said of one that fails."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.manner import PromptTooLong
from outcrop.serve.own import PROGRAM
from outcrop.serve.wants import Place
from tests.engines.tiny import CONTEXT, write_adapter, write_llama
from tests.serve.fleet_world import World, alive, now, until
from tests.serve.vllm.standin_line import SERVE
from tests.store.resources import BASE_ARN, LONG_ID, REGION

OTHER_ID = "amazon.titan-text-lite-v1:0:4k"
TURNS = (Turn("user", "where is it?"), Turn("assistant", "On its way."), Turn("user", "the order is late"))


def world_over(root: Path, line: str) -> World:
    """A world whose first model is served by vLLM, and whose second one by our own engine over the same weights."""
    file = root / "models.toml"
    file.write_text(f"[models.{json.dumps(LONG_ID)}]\nengine = {json.dumps(line)}\n")
    # Both engines import torch: on a busy machine that takes what it takes.
    world = World(root, program=PROGRAM, catalog=Catalog.load(file), on_demand_wait=200.0, patience=200.0)
    shutil.rmtree(world.base)
    write_llama(world.base)
    world.store.models.use_weights(OTHER_ID, str(world.base))
    world.fleet.start()
    return world


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = world_over(tmp_path_factory.mktemp("both"), f"{SERVE} --dtype float32")
    yield world
    pids = world.pids()
    world.close()
    until(lambda: not any(alive(pid) for pid in pids))


@pytest.fixture(scope="module")
def custom(both: World) -> str:
    """A custom model that is provisioned on vLLM."""
    made = both.model(1)
    write_adapter(both.base, both.root / "models" / made.id, seed=3)
    return both.serve(1, made.arn)


def complete(world: World, target: str, prompt: Prompt) -> tuple[str, Piece]:
    with world.fleet.lease(target, REGION, 1) as lease:
        return lease.line.complete(lease.model, prompt)


def stream(world: World, target: str, prompt: Prompt) -> list[Piece]:
    async def collect() -> list[Piece]:
        with world.fleet.lease(target, REGION, 1) as lease:
            return [piece async for piece in lease.line.stream(lease.model, prompt)]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("the order", max_tokens=12, temperature=0.0),
        Prompt("the order", max_tokens=40, temperature=0.0, stop=("e",)),
        Prompt(max_tokens=12, temperature=0.0, turns=TURNS),
        Prompt(max_tokens=12, temperature=0.0, turns=(Turn("user", "late </s> order"),), system="Be kind."),
        Prompt(max_tokens=12, temperature=0.0, turns=TURNS[:2]),
        Prompt("the order is late " * 40, max_tokens=8, temperature=0.0, truncate="START"),
    ],
)
def test_it_answers_as_our_own_engine_does(both: World, prompt: Prompt) -> None:
    whole = complete(both, LONG_ID, prompt)
    assert whole == complete(both, OTHER_ID, prompt)
    assert whole[0]
    pieces = stream(both, LONG_ID, prompt)
    assert "".join(piece.text for piece in pieces) == whole[0]
    last = pieces[-1]
    assert (last.finish, last.prompt_tokens, last.completion_tokens, last.stopped_by) == (
        whole[1].finish,
        whole[1].prompt_tokens,
        whole[1].completion_tokens,
        whole[1].stopped_by,
    )


def test_an_adapter_answers_as_on_our_own_engine(both: World, custom: str) -> None:
    prompt = Prompt("the order", max_tokens=12, temperature=0.0)
    name = both.throughput(custom).model_arn.rpartition("/")[2]
    with both.fleet.seated(OTHER_ID, REGION) as (ours, _):
        ours.load_adapter(name, both.root / "models" / name)
        assert complete(both, custom, prompt) == ours.complete(name, prompt)
    assert complete(both, custom, prompt) != complete(both, LONG_ID, prompt)


def test_likelihoods_are_read(both: World) -> None:
    prompt = Prompt("the order", max_tokens=4, temperature=0.0, likelihoods="ALL")
    found = [complete(both, target, prompt)[1].likelihoods for target in (LONG_ID, OTHER_ID)]
    (texts, logs), (own_texts, own_logs) = (list(zip(*each, strict=True)) for each in found)
    assert texts == own_texts
    assert logs == pytest.approx(own_logs, abs=1e-3)


def test_sampling_is_the_request_s_own(both: World) -> None:
    drawn = {complete(both, LONG_ID, Prompt("the", max_tokens=9, top_k=50, seed=seed))[0] for seed in (1, 2, 3, 1)}
    assert len(drawn) == 3


def test_what_vllm_refuses_is_refused_in_its_words(both: World) -> None:
    with pytest.raises(ValidationException, match=r"temperature must be in \[0, 2\], got 3"):
        complete(both, LONG_ID, Prompt("the", max_tokens=2, temperature=3.0))
    with pytest.raises(ValidationException, match="temperature must be in"):
        stream(both, LONG_ID, Prompt("the", max_tokens=2, temperature=3.0))


def test_a_whole_model_has_a_vllm_of_its_own(both: World) -> None:
    made = both.model(2, method="full")
    folder = both.root / "models" / made.id
    shutil.rmtree(folder)
    write_llama(folder, seed=9)
    arn = both.serve(2, made.arn)
    prompt = Prompt("the order", max_tokens=12, temperature=0.0)
    assert complete(both, arn, prompt) != complete(both, LONG_ID, prompt)
    assert Place(folder, f"{SERVE} --dtype float32") in both.fleet._engines
    both.store.throughputs.delete(arn, now())
    both.fleet.wake()
    until(lambda: Place(folder, f"{SERVE} --dtype float32") not in both.fleet._engines)


def test_more_tokens_than_the_context_leaves_are_not_asked_for(both: World) -> None:
    asked = Prompt("the order", max_tokens=8192, temperature=0.0)
    _, last = complete(both, LONG_ID, asked)
    assert last.prompt_tokens + last.completion_tokens <= CONTEXT
    assert last == complete(both, OTHER_ID, asked)[1]


def test_a_prompt_beyond_the_context_is_refused_with_the_true_figures(both: World) -> None:
    for target in (LONG_ID, OTHER_ID):
        with pytest.raises(PromptTooLong, match="Max input tokens: 95, request input token count: 501") as refused:
            complete(both, target, Prompt("~" * 500))
        assert (refused.value.limit, refused.value.count) == (95, 501)


def test_tokens_are_counted(both: World) -> None:
    for prompt in (Prompt("the order"), Prompt(turns=TURNS, system="Be kind."), Prompt("~" * 500)):
        counts = []
        for target in (LONG_ID, OTHER_ID):
            with both.fleet.seated(target, REGION) as (line, model):
                counts.append(line.count(model, prompt))
        assert counts[0] == counts[1] > 1


def test_it_tells_figures_and_nobody_else_may_enter(both: World, custom: str) -> None:
    complete(both, custom, Prompt("a", max_tokens=1))
    running = both.fleet._engines[Place(both.base, f"{SERVE} --dtype float32")]
    line = running.line
    assert line is not None
    assert running.process is not None
    told = {"running": 0, "waiting": 0, "preempted": 0, "adapters": len(running.adapters)}
    # Until: they are not waited for longer than a second, and there are none then.
    until(lambda: dict(line.figures()) == told)
    socket = running.process.socket()
    assert socket is not None
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    log = running.process.log.read_text()
    assert running.process.key not in log
    command = log.splitlines()[0]
    assert command.startswith(f"{SERVE} {both.base} --enable-lora --max-loras 16 ")
    assert command.endswith(f" --dtype float32 --served-model-name base --uds {socket}")


def test_what_nobody_wants_any_more_is_unloaded(both: World, custom: str) -> None:
    made = both.model(7)
    write_adapter(both.base, both.root / "models" / made.id, seed=5)
    arn = both.serve(7, made.arn)
    assert both.throughput(custom).status == "InService", "so the engine itself stays"
    running = both.fleet._engines[Place(both.base, f"{SERVE} --dtype float32")]
    line = running.line
    assert line is not None
    # Until: figures are not waited for longer than a second, and there are none then.
    until(lambda: line.figures().get("adapters") == len(running.adapters))
    assert made.id in running.adapters
    both.store.throughputs.delete(arn, now())
    both.fleet.wake()
    until(lambda: made.id not in running.adapters and line.figures().get("adapters") == len(running.adapters))


@pytest.mark.parametrize(
    ("line", "broken", "told"),
    [
        (f"{SERVE} --no-such-flag", {}, ["unrecognized arguments: --no-such-flag", "--no-such-flag", "ended with 2"]),
        (
            SERVE,
            {"exit": 1, "say": "ValueError: Free memory on device is too small\n" + "INFO: more\n" * 900},
            ["ValueError: Free memory on device is too small", "serve", "ended with 1"],
        ),
        (SERVE, {"exit": "torch.OutOfMemoryError: CUDA out of memory"}, ["CUDA out of memory", "ended with 1"]),
        ("/no/such/vllm serve", {}, ["`/no/such/vllm serve", "cannot be started", "No such file", "ended with 127"]),
    ],
)
def test_one_that_does_not_start_fails_its_throughput(
    tmp_path: Path, line: str, broken: dict[str, Any], told: list[str]
) -> None:
    world = world_over(tmp_path, line)
    try:
        (world.base / "standin.json").write_text(json.dumps(broken))
        settled = world.settle(world.provision(1, BASE_ARN))
        assert settled.status == "Failed"
        assert all(words in str(settled.failure) for words in told), settled.failure
        assert f"serve {world.base} --enable-lora" in str(settled.failure)
        assert len(str(settled.failure)) <= 2048
    finally:
        world.close()


def test_an_adapter_of_too_large_a_rank_fails_its_throughput(tmp_path: Path) -> None:
    world = world_over(tmp_path, f"{SERVE} --max-lora-rank=1")
    try:
        made = world.model(1)
        write_adapter(world.base, world.root / "models" / made.id, seed=3)
        settled = world.settle(world.provision(1, made.arn))
        assert settled.status == "Failed"
        assert "LoRA rank 4 is greater than max_lora_rank 1" in str(settled.failure)
    finally:
        world.close()
