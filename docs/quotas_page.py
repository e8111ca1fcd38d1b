"""The page docs/reference/quotas.md: every quota, and data that break each, with the checker's own words for them."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from docs.markdown import table
from docs.quota_words import SUBJECTS, quota_words
from outcrop.catalog.catalog import Catalog
from outcrop.catalog.rows import Customization
from outcrop.datasets.check import check_file
from outcrop.datasets.quotas import sum_faults
from outcrop.datasets.report import Report, failure_message
from outcrop.records import Limits

KINDS: Final[tuple[tuple[Customization, str], ...]] = (
    ("FINE_TUNING", "Fine-tuning"),
    ("CONTINUED_PRE_TRAINING", "Continued pre-training"),
)

INTRODUCTION: Final = """\
# Quotas

What AWS allows of a dataset, as the documents and AWS's own validators have it. `outcrop check FILE --model ID` tells
at home. A job whose data break a quota ends as `Failed` in its first part, before anything is trained: its
`failureMessage` begins with AWS's sentence, and every fault stands in a file under its output. Nothing is ever cut to
fit.

AWS counts tokens as characters: six are one token, for Claude three. Where a cell is empty AWS names no bound. A
[file of your own](models.md#a-model-of-your-own) changes any of these numbers.
"""

ELSEWHERE: Final = """\
Continued pre-training of any other model is ours and not AWS's: it has no quota.

## What breaks each

Each of these was given to the checker when this page was made.
"""

SIZES_AND_ADVICE: Final = """\
### File sizes

A file that is one byte larger than the table allows, whatever it holds. 1 GB is 1,073,741,824 bytes, 100 MB are
104,857,600.

## Advised minima

The customization guide asks for 1,000 examples or more to fine-tune, and for 100,000 tokens or more to go on
pre-training. AWS enforces neither: its own sample trains on one record. So a smaller dataset is told so and trained,
which is the setting `advised_minima = "advise"`. With `advised_minima = "enforce"`, or
`OUTCROP_ADVISED_MINIMA=enforce`, it is refused:
"""

IMAGES: Final = """\
The documents' quotas of image models stand here when the catalogue has these models.
"""

TITAN: Final = "amazon.titan-text-express-v1:0:8k"
COHERE: Final = "cohere.command-text-v14:7:4k"
CLAUDE: Final = "anthropic.claude-3-haiku-20240307-v1:0:200k"
LLAMA: Final = "meta.llama3-3-70b-instruct-v1:0:128k"
NOVA: Final = "amazon.nova-micro-v1:0:128k"

Line = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Breach:
    """Data that break one quota: one line that is too long or has a word that it must not, or too few or many lines."""

    quota: str
    model: str
    shown: str
    """The data, for people."""
    training: tuple[str, ...]
    validation: tuple[str, ...] = ()
    kind: Customization = "FINE_TUNING"
    batch: int = 1
    enforce: bool = False
    """The setting advised_minima is enforce."""


def pair(prompt: str, completion: str) -> str:
    """A line of prompt-completion."""
    return f'{{"prompt": "{prompt}", "completion": "{completion}"}}'


def document(text: str, _: str) -> str:
    """A line of text."""
    return f'{{"input": "{text}"}}'


def messages(question: str, answer: str) -> str:
    """A line of messages."""
    turns = f'{{"role": "user", "content": "{question}"}}, {{"role": "assistant", "content": "{answer}"}}'
    return f'{{"messages": [{turns}]}}'


def conversation(question: str, answer: str) -> str:
    """A line of conversation."""
    user, assistant = (
        f'{{"role": "{role}", "content": [{{"text": "{text}"}}]}}'
        for role, text in (("user", question), ("assistant", answer))
    )
    return f'{{"schemaVersion": "bedrock-conversation-2024", "messages": [{user}, {assistant}]}}'


def many(count: int, line: Line) -> tuple[str, ...]:
    """That many different good lines."""
    return tuple(line(f"What is {number}?", f"The number {number}.") for number in range(count))


def long(line: Line, question: int, answer: int, note: str = "") -> tuple[str, tuple[str, ...]]:
    """How a line with this many letters is shown, and the line; `note` is said of the job."""
    shown = [text if size == 1 else f"{text}…{text}" for text, size in (("a", question), ("b", answer))]
    said = [
        f"{text} stands for {size:,} letters" for text, size in zip(shown, (question, answer), strict=True) if size > 1
    ]
    return f"{line(*shown)}\n({'; '.join([*said, note] if note else said)})", (line("a" * question, "b" * answer),)


def counted(line: Line, training: int, validation: int = 0) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """How good lines in a wrong number are shown, and the lines for training and validation."""
    files = [
        f"{count:,} lines for {what}" for count, what in ((training, "training"), (validation, "validation")) if count
    ]
    return (
        f"{' and '.join(files)}, like\n{line('What is 1?', 'The number 1.')}",
        many(training, line),
        many(validation, line),
    )


def breaches() -> Iterator[Breach]:
    """Data for every quota of the tables."""
    yield Breach("Input and output tokens", TITAN, *long(pair, 24_576, 1))
    yield Breach("The same, at a larger batch size", TITAN, *long(pair, 12_288, 1, "batchSize is 2"), batch=2)
    yield Breach("The same, of a document", TITAN, *long(document, 24_577, 1), kind="CONTINUED_PRE_TRAINING")
    yield Breach("Input tokens", COHERE, *long(pair, 24_577, 1), batch=8)
    yield Breach("Output tokens", COHERE, *long(pair, 1, 12_289), batch=8)
    yield Breach("Tokens of a conversation", LLAMA, *long(conversation, 96_000, 1))
    yield Breach("Tokens of Claude's messages", CLAUDE, *long(messages, 96_000, 1), batch=32)
    for model, line, words, batch in (
        (CLAUDE, messages, "Good day.\\n\\nHuman: Hello", 32),
        (NOVA, conversation, "What is [EOS]?", 1),
    ):
        reserved = line(words, "A mark.")
        yield Breach(
            f"Reserved words of {'Claude' if model == CLAUDE else 'Nova'}", model, reserved, (reserved,), batch=batch
        )
    yield Breach("Too few training records, Cohere", COHERE, *counted(pair, 31), batch=8)
    yield Breach("Too few training records, Claude", CLAUDE, *counted(messages, 31), batch=32)
    yield Breach("Too few training records, Nova", NOVA, *counted(conversation, 7))
    yield Breach("Too many training records, Cohere", COHERE, *counted(pair, 10_001), batch=8)
    yield Breach("Too many training records, Nova", NOVA, *counted(conversation, 20_001))
    yield Breach("Too few validation records, Claude", CLAUDE, *counted(messages, 32, 31), batch=32)
    yield Breach("Too many validation records, Cohere", COHERE, *counted(pair, 32, 1001), batch=8)
    yield Breach("Too few records in all, Llama 3", LLAMA, *counted(conversation, 80, 19))
    yield Breach("Too many records in all, Claude", CLAUDE, *counted(messages, 9500, 501), batch=32)
    yield Breach("Too many records in all, Llama 3", LLAMA, *counted(conversation, 9500, 501))


def shortfalls() -> Iterator[Breach]:
    """Data below what the guide advises."""
    yield Breach("Too few examples, where it is enforced", TITAN, *counted(pair, 999), enforce=True)
    few = counted(document, 999)
    yield Breach("Too few tokens, where it is enforced", TITAN, *few, kind="CONTINUED_PRE_TRAINING", enforce=True)


def quotas_page(catalog: Catalog) -> str:
    """Every quota of every model, and data that break each."""
    lines = [
        INTRODUCTION,
        *quota_tables(catalog),
        ELSEWHERE,
        *(line for breach in breaches() for line in broken(catalog, breach)),
        SIZES_AND_ADVICE,
        *(line for breach in shortfalls() for line in broken(catalog, breach)),
        IMAGES,
    ]
    return "\n".join(lines).rstrip() + "\n"


def quota_tables(catalog: Catalog) -> Iterator[str]:
    """The quotas of both ways of customizing, a line a model that AWS customizes so."""
    for kind, title in KINDS:
        ways = [(row.name, row.customizations[kind]) for row in catalog.rows if kind in row.customizations]
        yield f"## {title}"
        yield ""
        yield from table(
            ("model", *SUBJECTS),
            (
                (name, *("<br>".join(quota_words(way.quotas).get(subject, ())) for subject in SUBJECTS))
                for name, way in ways
                if not way.beyond_aws
            ),
        )
        yield ""


def broken(catalog: Catalog, breach: Breach) -> Iterator[str]:
    """A breach, and what a job with these data says."""
    yield f"### {breach.quota}"
    yield ""
    yield f"`{breach.model}`"
    yield ""
    yield "```text"
    yield breach.shown
    yield "```"
    yield ""
    yield "```text"
    yield verdict(catalog, breach)
    yield "```"
    yield ""


def verdict(catalog: Catalog, breach: Breach) -> str:
    """The message of the one fault in these data."""
    row = catalog.find(breach.model)
    assert row is not None
    limits = catalog.limits(row, breach.batch, breach.kind, enforce_advice=breach.enforce)
    form = row.customizations[breach.kind].format
    reports = [report(form, limits, "train", breach.training)]
    if breach.validation:
        reports.append(report(form, limits, "validation", breach.validation))
    elif reports[0].fault_count > 1:
        # A lone line may also be too few: the page is about the line.
        reports = [report(form, limits, "train", (*breach.training, *padding(form)))]
    faulty = [one for one in reports if not one.passed]
    if faulty:
        assert [one.fault_count for one in faulty] == [1], f"{breach.quota}: more than one thing is wrong"
        return failure_message(faulty[0], f"s3://my-bucket/{faulty[0].name}", limits)
    faults = list(sum_faults(reports, limits))
    assert len(faults) == 1, f"{breach.quota}: the checker finds {len(faults)} faults"
    return faults[0].reason


def padding(form: str) -> tuple[str, ...]:
    """Good lines, enough for any model's least."""
    lines: dict[str, Line] = {"prompt-completion": pair, "text": document, "messages": messages}
    return many(100, lines.get(form, conversation))


def report(form: str, limits: Limits, purpose: str, lines: Iterable[str]) -> Report:
    """The checker's report of these lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{purpose}.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return check_file(path, form, limits, purpose)
