"""How likely the engine says tokens were, beside what transformers makes of the same text."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from outcrop.datasets.tokens import Encoder
from outcrop.engines.requests import BadRequest, GenerateRequest, Message
from outcrop.engines.sequence import Output
from outcrop.engines.text import TextEngine
from outcrop.records import Prompt
from outcrop.weights import load_model

TEXT = "the order is late"


def last(engine: TextEngine, prompt: Prompt) -> Output:
    found: list[Output] = []
    engine.submit("base", prompt, found.append)
    while not found or found[-1].finish is None:
        engine.step()
    return found[-1]


def oracle(folder: Path, ids: list[int]) -> list[float]:
    """Log-probabilities of all tokens but the first, in one pass."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train(False)
    with torch.inference_mode():
        logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(logs[place, token]) for place, token in enumerate(ids[1:])]


@pytest.mark.parametrize("part", [3, 512])
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_likelihoods_are_the_model_s_own(tiny_llama: Path, part: int, temperature: float) -> None:
    engine = TextEngine(load_model(tiny_llama, "float32"), Encoder.read(tiny_llama), name="base", step_tokens=part)
    told = last(engine, Prompt(TEXT, max_tokens=9, temperature=temperature, seed=4, likelihoods="ALL"))
    prompt = AutoTokenizer.from_pretrained(tiny_llama)(TEXT).input_ids
    answer = [token for token, _, _ in told.likelihoods]
    assert len(answer) in (told.completion_tokens, told.completion_tokens - 1), "the end of the text is none of it"
    assert [token for token, _, _ in told.prompt_likelihoods] == prompt[1:]
    expected = oracle(tiny_llama, [*prompt, *answer])
    found = [log for _, _, log in (*told.prompt_likelihoods, *told.likelihoods)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert "".join(text for _, text, _ in told.prompt_likelihoods) == TEXT


def test_only_what_is_asked_for_is_told(tiny_llama: Path) -> None:
    engine = TextEngine(load_model(tiny_llama, "float32"), Encoder.read(tiny_llama), name="base")
    nothing = last(engine, Prompt(TEXT, max_tokens=4))
    assert (nothing.prompt_likelihoods, nothing.likelihoods) == ((), ())
    answer = last(engine, Prompt(TEXT, max_tokens=4, temperature=0.0, likelihoods="GENERATION"))
    assert answer.prompt_likelihoods == ()
    assert answer.likelihoods


def test_requests_ask_as_openai_and_vllm_do() -> None:
    asked = GenerateRequest("base", prompt="a", logprobs=0)
    assert asked.to_prompt(9, chat=False).likelihoods == "GENERATION"
    both = GenerateRequest("base", prompt="a", logprobs=0, prompt_logprobs=0)
    assert both.to_prompt(9, chat=False).likelihoods == "ALL"
    with pytest.raises(BadRequest, match="whole completions only"):
        GenerateRequest("base", prompt="a", logprobs=0, stream=True).to_prompt(9, chat=False)
    with pytest.raises(BadRequest, match="whole completions only"):
        GenerateRequest("base", messages=[Message("user", "a")], logprobs=0).to_prompt(9, chat=True)
