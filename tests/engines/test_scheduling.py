"""Who reads when: budgets, chunks, preemption and known beginnings change when an answer comes, never what it says."""

from pathlib import Path

import pytest

from outcrop.datasets.tokens import Encoder
from outcrop.engines.sequence import Output, Sequence
from outcrop.engines.text import TextEngine
from outcrop.records import Prompt
from outcrop.weights import load_model

TEXTS = ["the order", "thank you, 配送", "a", "the order is late " * 5, "thank you " * 4, "late " * 9, "~" * 30, "is"]
TOKEN = 2 * 2 * 2 * 8 * 4
"""Bytes of a token's keys and values: two layers of two heads of eight numbers each."""


def engine_of(folder: Path, adapters: dict[str, Path], **options: object) -> TextEngine:
    model, encoder = load_model(folder, "float32"), Encoder.read(folder)
    engine = TextEngine(model, encoder, name="base", **options)  # type: ignore[arg-type]
    for name, place in adapters.items():
        done = engine.load_adapter(name, place)
        order, _ = engine._orders.popleft()
        order()
        assert not done.done()
    return engine


class Asked:
    """A request and all that came back."""

    def __init__(self, engine: TextEngine, model: str, text: str, tokens: int = 24, **members: object) -> None:
        self.outputs: list[Output] = []
        prompt = Prompt(text, max_tokens=tokens, temperature=0.0, **members)  # type: ignore[arg-type]
        self.sequence: Sequence = engine.submit(model, prompt, self.outputs.append)

    @property
    def done(self) -> bool:
        return bool(self.outputs) and self.outputs[-1].finish is not None

    @property
    def made(self) -> list[int]:
        assert self.outputs[-1].failure is None
        return self.sequence.ids[len(self.sequence.prompt) :]


def finish(engine: TextEngine, asked: list[Asked]) -> list[list[int]]:
    for _ in range(3000):
        if all(one.done for one in asked):
            return [one.made for one in asked]
        engine.step()
    raise AssertionError("an answer never ended")


@pytest.fixture(scope="module")
def alone(tiny_llama: Path, adapters: dict[str, Path]) -> dict[tuple[str, str], list[int]]:
    """What each request gets of an engine that runs one at a time and knows no beginnings of others."""
    found = {}
    for model in ("base", "red", "blue"):
        for text in TEXTS:
            engine = engine_of(tiny_llama, adapters, running=1)
            [found[model, text]] = finish(engine, [Asked(engine, model, text)])
    return found


@pytest.mark.parametrize("step_tokens", [1, 5, 64])
@pytest.mark.parametrize("running", [3, 16])
def test_joins_and_leaves_change_no_answer(
    tiny_llama: Path, adapters: dict[str, Path], alone: dict[tuple[str, str], list[int]], step_tokens: int, running: int
) -> None:
    engine = engine_of(tiny_llama, adapters, running=running, step_tokens=step_tokens)
    asked: list[tuple[tuple[str, str], Asked]] = []
    for turn, (model, text) in enumerate((model, text) for text in TEXTS for model in ("base", "red", "blue")):
        asked.append(((model, text), Asked(engine, model, text)))
        if turn % 2:
            engine.step()
    finish(engine, [one for _, one in asked])
    for key, one in asked:
        assert one.made == alone[key], key
    assert engine.load == 0
    assert engine.figures["cache_tokens_held"] == 0


@pytest.mark.parametrize("tokens", [100, 160, 230])
def test_a_full_cache_makes_the_youngest_wait_and_loses_nothing(
    tiny_llama: Path, adapters: dict[str, Path], alone: dict[tuple[str, str], list[int]], tokens: int
) -> None:
    engine = engine_of(tiny_llama, adapters, cache_bytes=tokens * TOKEN, step_tokens=16)
    assert engine.figures["cache_tokens"] == tokens
    keys = [(model, text) for text in TEXTS for model in ("base", "red")]
    asked = [Asked(engine, *key) for key in keys]
    made = finish(engine, asked)
    assert made == [alone[key] for key in keys]


def test_growing_answers_preempt_each_other_and_all_end(tiny_llama: Path, adapters: dict[str, Path]) -> None:
    def long(engine: TextEngine) -> list[Asked]:
        engine._ends = frozenset()
        return [Asked(engine, model, text, 84) for text in ("a", "is", "the order") for model in ("base", "blue")]

    roomy, tight = (engine_of(tiny_llama, adapters, cache_bytes=size * TOKEN) for size in (4096, 200))
    expected = finish(roomy, long(roomy))
    assert finish(tight, long(tight)) == expected
    assert roomy.figures["preempted"] == 0
    assert tight.figures["preempted"] > 0
    assert tight.figures["cache_tokens_held"] == 0


def test_a_known_beginning_is_not_read_again(tiny_llama: Path, adapters: dict[str, Path]) -> None:
    common = "配送が遅れている。 "
    engine, fresh = (engine_of(tiny_llama, adapters) for _ in "ab")
    finish(engine, [Asked(engine, "red", common + "a")])
    before = engine.figures["prefix_tokens"]
    second = Asked(engine, "red", common + "the order")
    engine.step()
    saved = engine.figures["prefix_tokens"] - before
    assert saved >= 16
    assert finish(engine, [second]) == finish(fresh, [Asked(fresh, "red", common + "the order")])
    stranger = Asked(engine, "blue", common + "the order")
    engine.step()
    assert engine.figures["prefix_tokens"] == before + saved, "another adapter's keys are other keys"
    assert finish(engine, [stranger]) == finish(fresh, [Asked(fresh, "blue", common + "the order")])


def test_an_adapter_of_the_same_name_does_not_read_what_its_forerunner_left(
    tiny_llama: Path, adapters: dict[str, Path], alone: dict[tuple[str, str], list[int]]
) -> None:
    engine = engine_of(tiny_llama, {"red": adapters["blue"]})
    text = TEXTS[3]
    finish(engine, [Asked(engine, "red", text)])
    engine.load_adapter("red", adapters["red"])
    engine._orders.popleft()[0]()
    [made] = finish(engine, [Asked(engine, "red", text)])
    assert made == alone["red", text]
    assert engine.figures["prefix_hits"] == 0


def test_short_prompts_overtake_long_ones(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama, {}, step_tokens=8)
    engine._ends = frozenset()
    long = [Asked(engine, "base", letter * 60, 30) for letter in "~#"]
    engine.step()
    short = Asked(engine, "base", "a", 30)
    engine.step()
    assert short.sequence.made == 1, "it waits for no more than the step under way"
    assert [one.sequence.made for one in long] == [0, 0]
    finish(engine, [*long, short])


def test_short_prompts_do_not_keep_a_long_one_waiting(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama, {}, step_tokens=8, running=4, waiting=10_000)
    long = Asked(engine, "base", "~" * 60, 1)
    alone = -(-len(long.sequence.prompt) // 8)
    short: list[list[Asked]] = []
    while not long.done:
        assert len(short) < 100 * alone, "it is never read"
        # More than a step can read: there is always a shorter one.
        short.append([Asked(engine, "base", text * 6, 1) for text in "#@"])
        engine.step()
    assert any(one.done for pair in short[1:] for one in pair), "nobody ever overtook it: this shows nothing"
    assert not any(one.done for pair in short[4 * alone + 1 :] for one in pair)


def test_a_long_prompt_does_not_stall_an_answer(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama, {}, step_tokens=8)
    engine._ends = frozenset()
    answer = Asked(engine, "base", "a", 40)
    engine.step()
    long = Asked(engine, "base", "~" * 80, 4)
    for step in range(5):
        made = answer.sequence.made
        engine.step()
        assert answer.sequence.made == made + 1, f"it waited in step {step}"
        assert long.sequence.made == 0
    finish(engine, [answer, long])


def test_cancelling_one_that_was_preempted_leaves_nothing(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama, {}, cache_bytes=150 * TOKEN)
    engine._ends = frozenset()
    asked = [Asked(engine, "base", "a", 80), Asked(engine, "base", "is", 80)]
    while not engine.figures["preempted"]:
        assert not asked[0].done
        engine.step()
    [waits] = [one for one in asked if one.sequence.holding is None]
    waits.sequence.cancel()
    asked.remove(waits)
    engine.step()
    assert engine.load == 1
    finish(engine, asked)
    assert engine.figures["cache_tokens_held"] == 0


def test_likelihoods_of_a_prompt_survive_preemption(tiny_llama: Path) -> None:
    roomy, tight = (engine_of(tiny_llama, {}, cache_bytes=size * TOKEN, step_tokens=4) for size in (2048, 150))
    told = []
    for engine in (roomy, tight):
        engine._ends = frozenset()
        asked = [Asked(engine, "base", text, 70, likelihoods="ALL") for text in ("the order is late", "thank you")]
        finish(engine, asked)
        told.append([one.outputs[-1] for one in asked])
    assert tight.figures["preempted"] > 0
    for one, other in zip(*told, strict=True):
        for kind in ("prompt_likelihoods", "likelihoods"):
            expected, found = getattr(one, kind), getattr(other, kind)
            assert [token for token, _, _ in found] == [token for token, _, _ in expected]
            assert [log for _, _, log in found] == pytest.approx([log for _, _, log in expected], abs=1e-4)
