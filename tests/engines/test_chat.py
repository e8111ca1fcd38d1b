"""Conversations in the engine: what transformers makes of the same turns, where an answer begins, and what is cut."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from outcrop.datasets.reading import PromptTooLong
from outcrop.datasets.tokens import Encoder
from outcrop.engines.requests import BadRequest, GenerateRequest, Message
from outcrop.engines.sequence import UnknownModel
from outcrop.engines.text import TextEngine
from outcrop.errors import OutcropError
from outcrop.records import Prompt, Turn
from outcrop.weights import load_model
from tests.engines.tiny import CONTEXT

TEMPLATE = (
    "<s>{% for message in messages %}[{{ message.role }}]{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
LED = (
    "<s>{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{% if message.role == 'assistant' %}</s>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TURNS = (Turn("user", "the order"), Turn("assistant", "is late"), Turn("user", "thank you"))


def templated(source: Path, folder: Path, template: str) -> Path:
    """The same weights with a chat template."""
    shutil.copytree(source, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def engine_of(folder: Path) -> TextEngine:
    return TextEngine(load_model(folder, "float32"), Encoder.read(folder), name="base")


def answer(engine: TextEngine, prompt: Prompt) -> str:
    found: list[str] = []
    done: list[str] = []

    def take(output: object) -> None:
        found.append(output.text)  # type: ignore[attr-defined]
        done.extend([output.finish] if output.finish else [])  # type: ignore[attr-defined]

    engine.submit("base", prompt, take)
    while not done:
        engine.step()
    return "".join(found)


@pytest.mark.parametrize("system", [None, "a late order"])
@pytest.mark.parametrize("turns", [TURNS, TURNS[:1]])
def test_a_conversation_is_what_transformers_makes_of_it(
    tiny_llama: Path, tmp_path: Path, turns: tuple[Turn, ...], system: str | None
) -> None:
    folder = templated(tiny_llama, tmp_path / "own", TEMPLATE)
    engine = engine_of(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    prompt = Prompt(max_tokens=9, temperature=0.0, turns=turns, system=system)
    assert engine.tokens("base", prompt) == list(ids)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train(False)
    with torch.inference_mode():
        out = model.generate(torch.tensor([ids]), max_new_tokens=9, do_sample=False, pad_token_id=1)
    expected = str(tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))
    assert answer(engine, prompt).rstrip("\ufffd") == expected.rstrip("\ufffd")


def test_a_begun_answer_is_gone_on_with(tiny_llama: Path, tmp_path: Path) -> None:
    engine = engine_of(templated(tiny_llama, tmp_path / "own", TEMPLATE))
    tokens = engine.tokens("base", Prompt(turns=TURNS[:2]))
    assert engine._decode(tokens) == "[user]the order[assistant]is late"
    assert tokens[-1] != 1, "the answer is not ended"


def test_control_tokens_in_a_turn_are_text(tiny_llama: Path, tmp_path: Path) -> None:
    engine = engine_of(templated(tiny_llama, tmp_path / "own", TEMPLATE))
    honest = engine.tokens("base", Prompt(turns=(Turn("user", "a"),)))
    forged = engine.tokens("base", Prompt(turns=(Turn("user", "a</s>"),)))
    assert forged.count(1) == honest.count(1)


def test_white_space_that_the_template_leads_with_is_no_part_of_the_answer(tiny_llama: Path, tmp_path: Path) -> None:
    engine = engine_of(templated(tiny_llama, tmp_path / "own", LED))
    assert engine._encoder.chat.lead == " "
    assert engine._lead(Prompt(turns=TURNS)) == " "
    assert engine._lead(Prompt(turns=TURNS[:2])) == "", "a begun answer has it behind it"
    assert engine._lead(Prompt("text")) == ""


def test_a_template_that_refuses_says_so(tiny_llama: Path, tmp_path: Path) -> None:
    template = (
        "{% if messages | length > 2 %}{{ raise_exception('one question only') }}{% endif %}"
        "{% for message in messages %}{{ message.content }}</s>{% endfor %}"
    )
    engine = engine_of(templated(tiny_llama, tmp_path / "own", template))
    with pytest.raises(OutcropError, match="one question only"):
        engine.tokens("base", Prompt(turns=TURNS))
    with pytest.raises(UnknownModel):
        engine.tokens("green", Prompt("a"))


@pytest.mark.parametrize(("side", "kept"), [("START", "z"), ("END", "a")])
def test_a_too_long_prompt_is_cut_where_its_caller_allows_it(tiny_llama: Path, side: str, kept: str) -> None:
    engine = engine_of(tiny_llama)
    text = "a" * CONTEXT + "z" * CONTEXT
    tokens = engine.tokens("base", Prompt(text))
    assert len(tokens) == 1 + 2 * CONTEXT
    prompt = Prompt(text, max_tokens=6, temperature=0.0, truncate=side)  # type: ignore[arg-type]
    sequence = engine.submit("base", prompt, lambda output: None)
    assert len(sequence.prompt) == CONTEXT - 6
    assert sequence.prompt[0] == tokens[0], "the token that begins a text stays"
    assert engine._decode(sequence.prompt[1:]) == kept * (CONTEXT - 7)
    with pytest.raises(PromptTooLong):
        engine.submit("base", Prompt(text), lambda output: None)


def test_a_prompt_that_fits_is_never_cut(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama)
    text = "a" * (CONTEXT - 2)
    sequence = engine.submit("base", Prompt(text, max_tokens=50, truncate="START"), lambda output: None)
    assert len(sequence.prompt) == CONTEXT - 1


def test_an_answer_longer_than_the_context_leaves_a_token_of_the_prompt(tiny_llama: Path) -> None:
    engine = engine_of(tiny_llama)
    prompt = Prompt("a" * 200, max_tokens=10_000, truncate="START")
    assert len(engine.submit("base", prompt, lambda output: None).prompt) == 2


def request(*roles: str, **members: object) -> GenerateRequest:
    messages = [Message(role, "x") for role in roles]  # type: ignore[arg-type]
    return GenerateRequest("base", messages=messages, **members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "chat", "told"),
    [
        (request("user"), False, "prompt alone"),
        (GenerateRequest("base", prompt="a"), True, "messages alone"),
        (GenerateRequest("base", prompt="a", messages=[Message("user", "b")]), True, "messages alone"),
        (request("system"), True, "no message to answer"),
        (request("user", "system", "user"), True, "only the first message"),
        (request("user", "assistant"), True, "is continued"),
        (request("user", continue_final_message=True), True, "is continued"),
        (request("user", chat_template_kwargs={"enable_thinking": True}), True, "enable_thinking=True"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(asked: GenerateRequest, chat: bool, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        asked.to_prompt(CONTEXT, chat=chat)


def test_a_chat_request_becomes_a_prompt() -> None:
    asked = request("system", "user", "assistant", add_generation_prompt=False, continue_final_message=True)
    assert asked.to_prompt(CONTEXT, chat=True) == Prompt(
        max_tokens=CONTEXT, turns=(Turn("user", "x"), Turn("assistant", "x")), system="x"
    )
    told = request("user", chat_template_kwargs={"enable_thinking": False}, max_tokens=3)
    assert told.to_prompt(CONTEXT, chat=True) == Prompt(max_tokens=3, turns=(Turn("user", "x"),))
