"""Our own engine: how it is started, and asked. The first of the two that stand behind `Kind` and `Manner`.

It takes turns as they are, writes them with the weights' chat template itself and says everything on /health.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from outcrop.datasets.chat import KNOBS
from outcrop.records import Prompt
from outcrop.serve.manner import Get, Manner, Post, Question, sampling

PROGRAM: Final = (sys.executable, "-m", "outcrop.engines.host")


@dataclass(frozen=True, slots=True)
class OwnEngine:
    """How our own engine is started. program: takes --weights, --name, --port, --ready and `options`."""

    program: Sequence[str] = PROGRAM
    options: Sequence[str] = ()

    def command(self, weights: Path, name: str, ready: Path) -> list[str]:
        """The whole command line for one base."""
        told = ("--weights", str(weights), "--name", name, "--port", "0", "--ready", str(ready))
        return [*self.program, *told, *self.options]

    def manner(self, weights: Path) -> Manner:
        """How it is asked, whatever its weights."""
        return OwnManner()


@dataclass(frozen=True, slots=True)
class OwnManner:
    """How our own engine is asked."""

    tokenises: bool = False

    def question(self, model: str, prompt: Prompt, get: Get) -> Question:
        """A conversation is for the chat verb, which applies the chat template; a text is taken as it stands."""
        body = {"model": model, **_asked(prompt), "max_tokens": prompt.max_tokens, **sampling(prompt)}
        if prompt.truncate is not None:
            side = "left" if prompt.truncate == "START" else "right"
            body |= {"truncate_prompt_tokens": -1, "truncation_side": side}
        return Question("/v1/chat/completions" if prompt.turns else "/v1/completions", body)

    def count(self, model: str, prompt: Prompt, post: Post) -> int:
        """Tokens, as the engine's own tokenizer counts them."""
        return int(msgspec.json.decode(post("/tokenize", {"model": model, **_asked(prompt)}))["count"])

    def figures(self, get: Get) -> Mapping[str, float]:
        """Every number that /health tells."""
        content = get("/health")
        told = msgspec.json.decode(content) if content else {}
        found = told.items() if isinstance(told, dict) else ()
        return {name: value for name, value in found if isinstance(value, int | float)}


def _asked(prompt: Prompt) -> dict[str, Any]:
    """What the engine is to go on from, in the members of the prompt's verb."""
    if not prompt.turns:
        return {"prompt": prompt.text}
    messages = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    if prompt.system is not None:
        messages.insert(0, {"role": "system", "content": prompt.system})
    begun = prompt.turns[-1].role == "assistant"
    return {
        "messages": messages,
        "add_generation_prompt": not begun,
        "continue_final_message": begun,
        "chat_template_kwargs": dict(KNOBS),
    }
