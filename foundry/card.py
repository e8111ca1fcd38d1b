"""The base's model card, written from the record of its making. It knows the record only."""

from collections.abc import Mapping
from typing import Any

_TEXT = """\
---
license: apache-2.0
language: [en, ja]
library_name: transformers
pipeline_tag: text-generation
---

# outcrop's bundled text base

A very small decoder ({parameters:.1f} million parameters, {megabytes:.1f} MB, Llama layout, bf16) that outcrop
fine-tunes and serves where nobody has named other weights. It is a **stand-in**: behind the ids of Titan Text and its
like it makes the documented flow run on two CPU cores within minutes, with real training and real answers.

## What it is

- A Llama as transformers knows it: {layers} layers, width {hidden}, {heads} heads, {vocabulary} tokens, tied
  embeddings.
- Trained from nothing, on text that the scripts in `foundry/` make up by themselves. Nothing was downloaded, no other
  model was asked, and no person's data is in it.
- Its diet, in English and Japanese: plain customer service, topics and facts of a message, look-up in small tables,
  templates to fill in, patterns to go on with, repetition, sentences to translate, sentiment, summaries, questions
  whose answer stands in the text. Much of it is built from invented words, so that what it learns best is to **copy
  names, numbers and codes from the prompt into a wording**; a fine-tune can then give it a new wording. One document
  in ten is a drill: random tokens that come twice, so that no token of the vocabulary stays unpractised.
- It ends its answers: most of what it was shown is shorter than 60 tokens.

## What it is not

- It is not Titan, Claude or any other model, and nothing of their weights, data or answers went into it. Quality,
  prices and learning curves measured with it say nothing about those models.
- It knows nothing of the world. It does not reason, count, search or write programs; a question whose answer is not in
  the prompt gets fluent nonsense. Its Japanese and English are those of some hundred templates.
- It has had no safety training. Do not put it before customers.
- It was trained on rows of up to {length} tokens, most of them of {first_length}. The {positions} positions of its
  configuration load, but nothing is promised beyond the trained length.

## Tokenizer

Byte-pair merges with byte fallback: every Unicode string comes back exactly, leading and trailing spaces and newlines
too. Digits, kanji and marks are single tokens; merges never cross scripts. `<|pad|>` 0, `<|begin|>` 1 and `<|end|>` 2
are distinct, and no text produces them: `split_special_tokens` is set, so `<|end|>` within a prompt is ordinary
characters and no stop. (Who loads `tokenizer.json` with the bare `tokenizers` library sets `encode_special_tokens =
True` to get the same.) A training pair is `<|begin|>` + prompt + completion + `<|end|>`, prompt and completion
tokenized apart; completions mostly begin with a space. transformers' `apply_chat_template` would split the template's
own `<|begin|>` as well: give it `tokenizer_kwargs={{"split_special_tokens": False}}`, here and with exported models.

## How it was made

`{command}` makes tokenizer, data and weights again. Seed {seed}; {steps} steps, {tokens:,} tokens, {minutes:.0f}
minutes on {machine}; Muon for the layers' matrices, AdamW for the rest, peak rate {peak}, warm-up and cosine, bf16
autocast. Settings, versions, hashes and the loss curve are in `training.json`. Data and tokenizer come out the same to
the byte; the weights only where the arithmetic is the same (kind of machine, thread count, torch).

Scores on {exam_count} fresh pairs a task, drawn with another seed by the same makers: familiar tasks, new words.
"Exact" is the share of pairs whose every completion token was the model's first choice, given the true text before it.
Where a task has several right answers (`reply`, `story`, any completion whose leading space is a toss of a coin) exact
is bounded by chance.

| task | NLL, nats a token | exact |
|---|---|---|
{table}
"""


def card(record: Mapping[str, Any]) -> str:
    """Write the card (Markdown with a YAML head) from the record that `cast` keeps."""
    shape = record["shape"]
    table = "\n".join(
        f"| {name} | {score['nll']:.3f} | {score['exact']:.0%} |" for name, score in record["scores"].items()
    )
    return _TEXT.format(
        parameters=record["parameters"] / 1e6,
        megabytes=record["bytes"] / 1e6,
        length=max(stage["length"] for stage in record["stages"]),
        first_length=record["stages"][0]["length"],
        steps=sum(stage["steps"] for stage in record["stages"]),
        tokens=record["tokens"],
        minutes=record["seconds"] / 60,
        machine=record["machine"],
        seed=record["seed"],
        peak=record["peak"],
        command=record["command"],
        exam_count=record["exam_count"],
        table=table,
        **shape,
    )
