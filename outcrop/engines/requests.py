"""What the engine's verbs take: OpenAI's members and vLLM's additions, as far as they are carried out, typed.

Knows JSON and our own prompt; nothing of the engine or of HTTP.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from outcrop.datasets.chat import KNOBS
from outcrop.errors import OutcropError
from outcrop.records import Prompt, Turn

SIDES: Final[dict[str, Literal["START", "END"]]] = {"left": "START", "right": "END"}


class BadRequest(OutcropError):
    """Members that do not go together, or ask for what is not carried out."""


class StreamOptions(Struct, frozen=True):
    """OpenAI's stream_options; vLLM's continuous_usage_stats puts the counts so far into every event."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Message(Struct, frozen=True):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class GenerateRequest(Struct, frozen=True):
    """OpenAI's completion and chat requests: the one has `prompt`, the other `messages`. vLLM's tokenize takes both."""

    model: str
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """None: 16 for a prompt, as OpenAI has it; for a chat what the context leaves."""
    temperature: Annotated[float, Meta(ge=0)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=-1)] = 0
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=1)] = 1
    """One answer a request."""
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=-1)] | None = None
    """-1: a too long prompt is cut to what the context holds beside max_tokens; None: it is refused."""
    truncation_side: Literal["left", "right"] = "left"
    logprobs: Annotated[int, Meta(ge=0, le=0)] | None = None
    """0: the log-probability of each token of the answer, of no alternatives."""
    prompt_logprobs: Annotated[int, Meta(ge=0, le=0)] | None = None
    """0: the prompt's too."""
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] = {}

    def to_prompt(self, context: int, *, chat: bool) -> Prompt:
        """The same question as our own record; raises BadRequest."""
        if chat is not (self.messages is not None) or chat is (self.prompt is not None):
            raise BadRequest(f"this verb takes {'messages' if chat else 'prompt'} alone")
        wanted = self.logprobs is not None or self.prompt_logprobs is not None
        if wanted and (chat or self.stream):
            raise BadRequest("log-probabilities are given with whole completions only")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        turns, system = self._conversation()
        return Prompt(
            text=self.prompt or "",
            max_tokens=self.max_tokens or (context if chat else 16),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            stop=tuple(text for text in stop if text),
            seed=self.seed,
            turns=turns,
            system=system,
            truncate=SIDES[self.truncation_side] if self.truncate_prompt_tokens else None,
            likelihoods=None if not wanted else "GENERATION" if self.prompt_logprobs is None else "ALL",
        )

    def _conversation(self) -> tuple[tuple[Turn, ...], str | None]:
        """Turns and system prompt."""
        if self.messages is None:
            return (), None
        system = self.messages[0].content if self.messages[0].role == "system" else None
        turns: list[Turn] = []
        for message in self.messages[0 if system is None else 1 :]:
            if message.role == "system":
                raise BadRequest("only the first message may be the system's")
            turns.append(Turn(message.role, message.content))
        if not turns:
            raise BadRequest("there is no message to answer")
        begun = turns[-1].role == "assistant"
        if (self.add_generation_prompt, self.continue_final_message) != (not begun, begun):
            raise BadRequest("a final message of the assistant's is continued, any other one answered")
        for name, value in self.chat_template_kwargs.items():
            if KNOBS.get(name) != value:
                raise BadRequest(f"the chat template is not told {name}={value!r} here")
        return tuple(turns), system


class LoadRequest(Struct, frozen=True):
    """vLLM's load_lora_adapter."""

    lora_name: str
    lora_path: str


class UnloadRequest(Struct, frozen=True):
    """vLLM's unload_lora_adapter."""

    lora_name: str
