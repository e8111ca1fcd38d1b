"""The engine in this process: what it writes is what transformers and PEFT write, whoever else asks meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from outcrop.datasets.reading import EmptyPrompt, PromptTooLong
from outcrop.datasets.tokens import Encoder
from outcrop.engines.batch import Batch
from outcrop.engines.cache import Cache
from outcrop.engines.loaded import Loaded
from outcrop.engines.sequence import Output, Overloaded, Sequence, UnknownModel
from outcrop.engines.text import TextEngine
from outcrop.errors import OutcropError
from outcrop.records import Prompt
from outcrop.weights import load_model
from tests.engines.tiny import CONTEXT


def engine_of(folder: Path, **options: int) -> TextEngine:
    return TextEngine(load_model(folder, "float32"), Encoder.read(folder), name="base", **options)


class Asked:
    """A request and all that came back."""

    def __init__(self, engine: TextEngine, model: str, prompt: Prompt) -> None:
        self.outputs: list[Output] = []
        self.sequence: Sequence = engine.submit(model, prompt, self.outputs.append)

    @property
    def done(self) -> bool:
        return bool(self.outputs) and self.outputs[-1].finish is not None

    @property
    def tokens(self) -> list[int]:
        return self.sequence.text.tokens

    @property
    def text(self) -> str:
        return "".join(output.text for output in self.outputs)


def answers(engine: TextEngine, *asked: tuple[str, Prompt]) -> list[Asked]:
    """Ask all at once and step until all are answered."""
    requests = [Asked(engine, model, prompt) for model, prompt in asked]
    for _ in range(1000):
        if all(request.done for request in requests):
            return requests
        engine.step()
    raise AssertionError("an answer never ended")


@pytest.fixture
def engine(tiny_llama: Path, adapters: dict[str, Path]) -> TextEngine:
    engine = engine_of(tiny_llama)
    for name, folder in adapters.items():
        order(engine, lambda name=name, folder=folder: engine.load_adapter(name, folder))
    return engine


def order(engine: TextEngine, call: object) -> None:
    """Have an adapter's order carried out by a running engine."""
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        call().result(10)  # type: ignore[operator]
    finally:
        engine.end()
        thread.join()
        engine._ended = False


def greedy(text: str, tokens: int = 24) -> Prompt:
    return Prompt(text, max_tokens=tokens, temperature=0.0)


def oracle(folder: Path, text: str, tokens: int, adapter: Path | None = None) -> list[int]:
    """What transformers, and PEFT where there is an adapter, write by themselves, less the token that ends it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train(False)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).train(False)
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model.generate(input_ids=ids, max_new_tokens=tokens, do_sample=False, pad_token_id=1)
    return [int(token) for token in out[0, ids.shape[1] :] if token != tokenizer.eos_token_id]


PROMPTS = ["the order", "thank you, 配送", "a"]


# PEFT 0.21 asks transformers 5.23 by a name that the latter is about to drop.
PEFT_IS_LATE = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen"])
@pytest.mark.parametrize("text", PROMPTS)
def test_greedy_text_is_that_of_transformers(name: str, text: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    [asked] = answers(engine_of(folder), ("base", greedy(text)))
    assert asked.tokens == oracle(folder, text, 24)
    decoded = str(AutoTokenizer.from_pretrained(folder).decode(asked.tokens))
    assert asked.text.rstrip("\ufffd") == decoded.rstrip("\ufffd")
    assert asked.outputs[-1].prompt_tokens == len(AutoTokenizer.from_pretrained(folder)(text).input_ids)


@PEFT_IS_LATE
def test_adapters_at_once_write_what_peft_writes_alone(
    engine: TextEngine, tiny_llama: Path, adapters: dict[str, Path]
) -> None:
    models = ["base", "red", "blue"]
    everything = answers(engine, *[(model, greedy(text)) for text in PROMPTS for model in models])
    expected = [oracle(tiny_llama, text, 24, adapters.get(model)) for text in PROMPTS for model in models]
    assert [asked.tokens for asked in everything] == expected
    assert len({tuple(tokens) for tokens in expected[:3]}) == 3, "the adapters would not be seen at all"


def test_long_prompts_are_read_in_parts(tiny_llama: Path) -> None:
    text = "the order is late " * 8
    [whole] = answers(engine_of(tiny_llama), ("base", greedy(text)))
    [parts] = answers(engine_of(tiny_llama, step_tokens=7), ("base", greedy(text)))
    assert parts.tokens == whole.tokens


def test_length_counts_every_token(engine: TextEngine) -> None:
    [asked] = answers(engine, ("base", greedy("the order", 5)))
    last = asked.outputs[-1]
    assert (last.finish, last.completion_tokens, last.stop_reason) == ("length", 5, None)


def test_the_context_ends_an_answer(engine: TextEngine) -> None:
    [asked] = answers(engine, ("base", greedy("the order", 10_000)))
    last = asked.outputs[-1]
    assert last.finish in ("length", "stop")
    if last.finish == "length":
        assert last.prompt_tokens + last.completion_tokens == CONTEXT


@pytest.mark.parametrize("listed", [False, True])
def test_every_end_token_ends_the_text(tiny_llama: Path, listed: bool) -> None:
    """The token that greedy writes third is made an end token, alone or in a list."""
    engine = engine_of(tiny_llama)
    made: list[int] = []
    choose = engine.submit("base", greedy("the order", 3), lambda output: None)
    while len(made) < 3:
        engine.step()
        made = choose.ids[len(choose.prompt) :]
    model = load_model(tiny_llama, "float32")
    model.generation_config.eos_token_id = [1, made[2]] if listed else made[2]
    other = TextEngine(model, Encoder.read(tiny_llama), name="base")
    [asked] = answers(other, ("base", greedy("the order")))
    last = asked.outputs[-1]
    assert (last.finish, last.stop_reason, last.completion_tokens) == ("stop", None, made.index(made[2]) + 1)


def test_a_stop_string_ends_the_text_and_is_named(engine: TextEngine) -> None:
    [free] = answers(engine, ("base", greedy("the order", 40)))
    stop = free.text[4:7]
    prompt = Prompt("the order", max_tokens=40, temperature=0.0, stop=(stop,))
    [asked] = answers(engine, ("base", prompt))
    assert asked.text == free.text[: free.text.index(stop)]
    assert (asked.outputs[-1].finish, asked.outputs[-1].stop_reason) == ("stop", stop)


def test_a_seed_makes_an_answer_again_whatever_else_runs(engine: TextEngine) -> None:
    prompt = Prompt("thank you", max_tokens=20, temperature=1.0, top_p=0.95, seed=5)
    [alone] = answers(engine, ("red", prompt))
    crowd = answers(engine, ("base", greedy("a")), ("red", prompt), ("blue", prompt), ("red", prompt))
    assert crowd[1].tokens == crowd[3].tokens == alone.tokens
    assert crowd[2].tokens != alone.tokens


def test_cancelling_frees_the_slot_within_one_step(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama, running=1)
    first = Asked(engine, "base", greedy("the order", 90))
    second = Asked(engine, "base", greedy("the order", 90))
    engine.step()
    engine.step()
    assert engine.load == 2
    assert not second.outputs
    seen = len(first.outputs)
    first.sequence.cancel()
    engine.step()
    assert engine.load == 1
    assert second.sequence.made == 1
    assert len(first.outputs) == seen


def test_a_hundred_quick_cancels_leave_nothing(engine: TextEngine) -> None:
    for round_ in range(100):
        asked = Asked(engine, "red", greedy("the order", 90))
        if round_ % 3:
            engine.step()
        asked.sequence.cancel()
    engine.step()
    assert engine.load == 0
    assert answers(engine, ("red", greedy("a", 2)))[0].done


def test_refusals_carry_the_figures(tiny_llama: Path, tiny_qwen: Path) -> None:
    engine = engine_of(tiny_llama, running=1, waiting=2)
    with pytest.raises(UnknownModel, match="green"):
        Asked(engine, "green", greedy("a"))
    with pytest.raises(PromptTooLong, match=f"Max input tokens: {CONTEXT - 1}, request input token count: 201"):
        Asked(engine, "base", greedy("~" * 200))
    with pytest.raises(EmptyPrompt):
        Asked(engine_of(tiny_qwen), "base", greedy(""))
    Asked(engine, "base", greedy("a"))
    engine.step()
    Asked(engine, "base", greedy("a"))
    waits = Asked(engine, "base", greedy("a"))
    with pytest.raises(Overloaded, match="2 requests already wait"):
        Asked(engine, "base", greedy("a"))
    waits.sequence.cancel()
    Asked(engine, "base", greedy("a"))


def test_an_adapter_that_does_not_fit_is_refused(engine: TextEngine, tmp_path: Path, adapters: dict[str, Path]) -> None:
    with pytest.raises(OutcropError, match="cannot be read"):
        engine.load_adapter("bad", tmp_path)
    config = (adapters["red"] / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config)
    weights = {
        f"base_model.model.model.layers.9.self_attn.q_proj.lora_{side}.weight": torch.zeros(4, 32).reshape(shape)
        for side, shape in (("A", (4, 32)), ("B", (32, 4)))
    }
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(OutcropError, match=r"no linear layer model\.layers\.9"):
        order(engine, lambda: engine.load_adapter("bad", tmp_path))
    assert engine.adapters == {"red", "blue"}


def test_taking_an_adapter_away_ends_its_requests_and_no_others(engine: TextEngine) -> None:
    red, blue = Asked(engine, "red", greedy("the order", 90)), Asked(engine, "blue", greedy("the order", 8))
    engine.step()
    order(engine, lambda: engine.unload_adapter("red"))
    for _ in range(10):
        engine.step()
    assert (red.outputs[-1].finish, blue.outputs[-1].finish) == ("error", "length")
    assert engine.adapters == {"blue"}
    with pytest.raises(UnknownModel):
        Asked(engine, "red", greedy("a"))


SHORT = {
    "RuntimeError": lambda: torch.empty(1 << 60),
    "MemoryError": lambda: bytearray(1 << 62),
}
"""Allocations that no machine gives, by what torch and Python themselves say of them."""


@pytest.mark.parametrize("kind", SHORT)
def test_a_request_that_fails_does_not_take_the_others_along(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    engine = engine_of(tiny_llama)
    healthy, doomed = Asked(engine, "base", greedy("the order", 6)), Asked(engine, "base", greedy("the order", 6))
    engine.step()
    broken = Loaded(99, "broken", (), ())
    doomed.sequence.adapter = broken
    run = engine._model.run

    def short_of_memory(batch: Batch, cache: Cache) -> torch.Tensor:
        if any(part.adapter is broken for part in batch.parts):
            SHORT[kind]()
        return run(batch, cache)

    monkeypatch.setattr(engine._model, "run", short_of_memory)
    for _ in range(8):
        engine.step()
    assert doomed.outputs[-1].finish == "error"
    assert str(doomed.outputs[-1].failure).startswith(kind)
    assert healthy.outputs[-1].finish == "length"


@pytest.mark.parametrize("kind", SHORT)
def test_an_adapter_that_finds_no_memory_is_refused_and_the_engine_goes_on(
    engine: TextEngine, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(engine._model.gains, "lay_out", lambda *_: SHORT[kind]())
    with pytest.raises((RuntimeError, MemoryError)) as refused:
        order(engine, lambda: engine.load_adapter("third", adapters["red"]))
    assert refused.type.__name__ == kind
    (asked,) = answers(engine, ("red", greedy("the order", 4)))
    assert asked.outputs[-1].finish == "length"


def test_a_lost_device_ends_the_engine_and_not_the_requests_one_by_one(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tiny_llama)
    asked = Asked(engine, "base", greedy("the order", 6))

    def lost(*_: object) -> torch.Tensor:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(engine._model, "run", lost)
    with pytest.raises(torch.AcceleratorError):
        engine.run()
    assert not asked.outputs


@pytest.fixture
def running(engine: TextEngine) -> Iterator[TextEngine]:
    thread = threading.Thread(target=engine.run)
    thread.start()
    yield engine
    engine.end()
    thread.join(5)
    assert not thread.is_alive()


def test_eight_callers_at_once_get_what_they_get_alone(running: TextEngine, tiny_llama: Path) -> None:
    expected = oracle(tiny_llama, "the order", 30)
    made: list[list[int]] = []

    def ask() -> None:
        done = threading.Event()

        def emit(output: Output) -> None:
            if output.finish:
                done.set()

        sequence = running.submit("base", greedy("the order", 30), emit)
        assert done.wait(30)
        made.append(sequence.text.tokens)

    callers = [threading.Thread(target=ask) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert made == [expected] * 8
