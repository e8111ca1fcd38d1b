"""How turns become the text that a model reads: the chat template of its tokenizer, or the house's where it has none.

Renders as transformers' apply_chat_template does, without transformers. Training, engines and estimates all write their
conversations here, so they cannot disagree. Knows template files; nothing of datasets, token ids or models.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import jinja2
import jinja2.ext
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from outcrop.errors import OutcropError
from outcrop.records import Turn

HOUSE: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] + eos_token + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For weights without a template. What begins a text is no part of it: the tokenizer itself puts that before it."""

KNOBS: Final[Mapping[str, Any]] = {"enable_thinking": False}
"""What templates are told beyond the conversation. No dialect here has a place for a model's thoughts, so a model that
may think aloud is asked not to, in training and in use. Other engines get these as chat_template_kwargs."""

TEMPLATED: Final = frozenset({"messages", "conversation"})
"""Dataset formats whose records a chat template writes."""

TOKENS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Members of tokenizer_config.json that templates may name."""

STUMBLES: Final = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
)
"""What a stranger's template may raise while it writes: faults of the template or of the conversation, not ours."""

_QUESTION, _ANSWER, _NEXT = "a question of the probe", "an answer of the probe", "a second question of the probe"
_SYSTEM = "an instruction of the probe"


class Tokens(Protocol):
    """The part of an encoder that a template is checked against."""

    @property
    def stops(self) -> frozenset[int]:
        """Ids at which an engine ends an answer."""
        ...

    def answer(self, prompt: str, answer: str) -> list[int]:
        """Ids of an answer's text behind a prompt's, control tokens as the template writes them."""
        ...

    def spell(self, token: int) -> str:
        """The text of one id."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One assistant turn as text."""

    prompt: str
    """All that an engine is shown before the answer."""
    answer: str
    """What the model has to write: the turn's text and what ends the turn. Behind that stands what the template writes
    before the next one, because in some manners (GLM's) it is the next turn's first token that ends an answer."""


class ChatTemplate:
    """A template that writes conversations; see prompt() and exchanges()."""

    def __init__(self, source: str, variables: Mapping[str, str], *, own: bool, name: str) -> None:
        """`variables` are the control tokens by their names in tokenizer_config.json; `name` is for messages.

        Raises OutcropError where the source is no template.
        """
        self.own = own
        """True where the weights brought their own template."""
        self.name = name
        self.source = source
        self._variables = dict(variables)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise OutcropError(f"the chat template {name} cannot be read: {error}") from error

    @classmethod
    def read(cls, folder: Path, end: str | None = None) -> "ChatTemplate":
        """The template of a Hugging Face folder: chat_template.jinja, else tokenizer_config.json's, else the house's.

        `end` is the end token's text for folders whose tokenizer_config.json names none. Raises OutcropError for files
        that are not what they should be.
        """
        settings = read_object(folder / "tokenizer_config.json")
        stated = read_object(folder / "special_tokens_map.json") | settings
        variables = {name: text for name in TOKENS if (text := _text(stated.get(name))) is not None}
        if end is not None:
            variables.setdefault("eos_token", end)
        for place in (folder / "chat_template.jinja", folder / "chat_template.json", folder / "tokenizer_config.json"):
            source = _source(place)
            if source is not None:
                return cls(source, variables, own=True, name=str(place))
        return cls(HOUSE, variables, own=False, name="of the house")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides how a conversation is written."""
        rules = {"source": self.source, "variables": self._variables, "own": self.own, "knobs": KNOBS, "version": 1}
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()

    def prompt(self, turns: Sequence[Turn], system: str | None = None) -> str:
        """The text that an answer follows; one that ends in an assistant's turn is to be continued right there.

        Raises OutcropError where the template refuses the conversation.
        """
        if turns and turns[-1].role == "assistant":
            return self._opened(turns[:-1], system) + self._frame.lead + turns[-1].text
        return self._opened(turns, system)

    def exchanges(self, turns: Sequence[Turn], system: str | None = None) -> list[Exchange]:
        """Every assistant turn with the text before it, in order; a prompt need not go on where the last answer ended.

        Where a template writes an answer otherwise than behind the prompt that it makes for it (thoughts taken out, a
        thought opened by the prompt), the answer is the turn's text as it stands, ended as the template ends a turn.
        """
        found = []
        for place, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            prompt = self._opened(turns[:place], system)
            written = self._render(turns[: place + 1], system)
            if written.startswith(prompt):
                answer = written[len(prompt) :]
            else:
                answer = self._frame.lead + turn.text + self._frame.closing
            found.append(Exchange(prompt, answer + self._frame.following))
        return found

    def check(self, tokens: Tokens) -> None:
        """Raise OutcropError unless this template makes a stop token the end of every assistant turn that it writes.

        A model learns to stop from the token that its engine stops at, and from nothing else.
        """
        conversation = [Turn("user", _QUESTION), Turn("assistant", _ANSWER)]
        for system in (None, _SYSTEM):
            for exchange in self.exchanges(conversation * 2, system):
                if tokens.stops.isdisjoint(tokens.answer(exchange.prompt, exchange.answer)):
                    names = ", ".join(sorted(repr(tokens.spell(stop)) for stop in tokens.stops))
                    raise OutcropError(
                        f"the chat template {self.name} ends an assistant's turn with {self._frame.closing!r}, and an "
                        f"engine of these weights stops at {names} only: a model tuned with it would never learn to "
                        "stop. Put the end token behind the assistant's content in the template"
                    )

    @property
    def lead(self) -> str:
        """The white space that the model itself writes before an answer's first word ("" for most templates)."""
        return self._frame.lead

    @cached_property
    def _frame(self) -> "_Frame":
        """What stands around an answer, found by writing one."""
        question = [Turn("user", _QUESTION)]
        prompt = self._render(question, None, opened=True)
        written = self._render([*question, Turn("assistant", _ANSWER)], None)
        place = written.rfind(_ANSWER)
        if place < 0:
            raise OutcropError(f"the chat template {self.name} leaves out what the assistant says")
        closing = written[place + len(_ANSWER) :]
        following = self._following(question, closing)
        lead = written[len(prompt) : place] if written.startswith(prompt) else ""
        # More than white space is no part of an answer (a header, an empty thought): it belongs to the prompt.
        header, lead = (lead, "") if lead.strip() else ("", lead)
        return _Frame(header, lead, closing, following)

    def _following(self, question: list[Turn], closing: str) -> str:
        """What is written between the end of an answer and the user's next word."""
        written = self._render([*question, Turn("assistant", _ANSWER), Turn("user", _NEXT)], None)
        between = written[written.rfind(_ANSWER) + len(_ANSWER) : written.rfind(_NEXT)]
        return between.removeprefix(closing) if between.startswith(closing) else ""

    @cached_property
    def _folds(self) -> bool:
        """True where the template has no place for a system prompt: it then stands before the first user turn."""
        try:
            return _SYSTEM not in self._written([{"role": "system", "content": _SYSTEM}, *_messages(_PROBE)], False)
        except STUMBLES:
            return True

    def _opened(self, turns: Sequence[Turn], system: str | None) -> str:
        return self._render(turns, system, opened=True) + self._frame.header

    def _render(self, turns: Sequence[Turn], system: str | None, *, opened: bool = False) -> str:
        messages = _messages(turns)
        if system is not None and self._folds and messages:
            messages[0]["content"] = f"{system}\n\n{messages[0]['content']}"
        elif system is not None:
            messages.insert(0, {"role": "system", "content": system})
        try:
            return self._written(messages, opened)
        except STUMBLES as error:
            raise OutcropError(f"the chat template {self.name} refuses the conversation: {error}") from error

    def _written(self, messages: Sequence[Mapping[str, str]], opened: bool) -> str:
        return self._template.render(
            messages=messages, tools=None, documents=None, add_generation_prompt=opened, **KNOBS, **self._variables
        )


_PROBE: Final = (Turn("user", _QUESTION), Turn("assistant", _ANSWER))


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a template writes around an answer."""

    header: str
    """Text between the prompt that the template makes and the answer; counted to the prompt."""
    lead: str
    """White space before the answer, which the model has to write."""
    closing: str
    following: str
    """Text before the next turn's own."""


class _Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %}, by which templates mark what the assistant says: written as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own type

    def parse(self, parser: Parser) -> list[Node]:
        """The body alone."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Namespace(Namespace):
    """Jinja's namespace without the names that reach into Python, as transformers has it."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.TemplateError(f"a namespace holds no name that begins with an underscore: {name}")
        super().__setitem__(name, value)


class _Mapping:
    """What templates call as dict: Python's own is a type, with all that hangs on types."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        return dict(*given, **named)

    def fromkeys(self, *given: Any) -> dict[Any, Any]:
        """As dict.fromkeys."""
        return dict.fromkeys(*given)


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up for chat templates; these come from strangers, hence the sandbox."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["dict"] = _Mapping()
    environment.globals["namespace"] = _Namespace
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter would write < as an escape."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def _source(place: Path) -> str | None:
    """The template in a file; of several by name the default one."""
    if place.suffix == ".jinja":
        return place.read_text(encoding="utf-8") if place.is_file() else None
    found = read_object(place).get("chat_template")
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    if found is not None and not isinstance(found, str):
        raise OutcropError(f"the chat_template in {place} is no text")
    return found


def _text(token: Any) -> str | None:
    """A control token, spelled alone or with its properties."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file, empty where there is no file; raises OutcropError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OutcropError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise OutcropError(f"{path} holds no JSON object")
    return found
