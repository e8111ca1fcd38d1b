"""The bundled tokenizer: every string comes back exactly, and what has to be copied is the same tokens everywhere."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from foundry.kanji import KANJI


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    encoded = tokenizer(text, add_special_tokens=False).input_ids
    assert isinstance(encoded, list)
    return encoded


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@example(text="  two spaces before, two after  ")
@example(text="\n\n\t\r\n \u3000")
@example(text="<|begin|><|end|><|pad|>")
@example(text="<0x41>▁<0xE3>")
@example(text="👍🏽👨‍👩‍👧‍👦🇯🇵 ✈️")
@example(text="e\u0301é ｶﾞガ か\u3099が")
@example(text="\x00\x1f\x7f\ufeff\uffff\U0010ffff")
def test_every_string_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    encoded = ids(tokenizer, text)
    assert tokenizer.decode(encoded) == text
    assert tokenizer.decode(encoded, skip_special_tokens=True) == text
    assert not set(encoded) & set(tokenizer.all_special_ids)


@settings(max_examples=100, deadline=None)
@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"])),
    completion=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_pair_tokenized_apart_comes_back(tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str) -> None:
    assert tokenizer.decode(ids(tokenizer, prompt) + ids(tokenizer, completion)) == prompt + completion


def test_special_tokens_are_three_and_distinct(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_a_plain_call_begins_with_the_begin_token_only(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("12").input_ids == [tokenizer.bos_token_id, *ids(tokenizer, "12")]


def test_digits_and_everyday_kanji_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("注文48213番") == ["注", "文", "4", "8", "2", "1", "3", "番"]
    assert all(len(ids(tokenizer, character)) == 1 for character in KANJI)


def test_a_name_is_the_same_tokens_wherever_it_stands(tokenizer: PreTrainedTokenizerFast) -> None:
    name = ids(tokenizer, "Garcia")
    for text in ("This is Garcia.", "\nGarcia here", "(Garcia)", "Garcia様"):
        encoded = ids(tokenizer, text)
        assert any(encoded[at : at + len(name)] == name for at in range(len(encoded))), text


def test_the_chat_template_writes_turns_as_titan_reads_them(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": "Bye"},
    ]
    written = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert written == "<|begin|>User: Hello\nBot: Good day<|end|>\nUser: Bye\nBot:"
