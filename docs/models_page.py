"""The page docs/reference/models.md: every row of the catalogue, and how a user adds one. Knows rows and Markdown."""

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from msgspec import Struct, inspect

from docs.attributes import attributes
from docs.markdown import anchor, table
from docs.quota_words import sentence
from outcrop.catalog import rows as columns
from outcrop.catalog.catalog import Catalog
from outcrop.catalog.hyperparameters import OURS
from outcrop.catalog.rows import (
    CustomizationRow,
    Feature,
    FoundationModel,
    InferenceLimits,
    Parameter,
    Prices,
    Quotas,
    TokenQuota,
    WeightsRow,
)

CALLED: Final = {"FINE_TUNING": "Fine-tuning", "CONTINUED_PRE_TRAINING": "Continued pre-training"}

MEANING: Final = {
    "epochCount": "passes over the training file",
    "batchSize": "examples per optimizer step",
    "learningRate": "step size on AWS's scale for this model; its default lands on the rate that suits the weights",
    "learningRateMultiplier": "times the rate that suits the weights",
    "learningRateWarmupSteps": "steps over which the rate rises from zero",
    "earlyStoppingThreshold": "least improvement of the validation loss that counts",
    "earlyStoppingPatience": "evaluations without one after which training stops; needs data to evaluate on",
    "evalPercentage": "per cent of the training file held out for evaluation, where no validation file is given",
    "method": "LoRA adapters, or all weights; lora",
    "loraRank": "rank of the adapters; 16",
    "loraAlpha": "scale of the adapters; twice the rank",
    "seed": "of the order of examples and of new adapters; 0",
    "maxSequenceLength": "longest example in the model's own tokens; the weights' context. Longer ones are never cut",
    "learningRateSchedule": "how the rate falls after warm-up; linear",
    "export": "also deliver the weights under outputDataConfig; false",
}

FILLED: Final = {
    "id": "the table's name",
    "long_id": "the id",
    "name": "the id",
    "provider": "the id up to its dot",
    "inference": "`max_tokens = 8192`",
    "tokens_per_minute_per_unit": "`300_000`",
    "provisioned_ids": "the long id",
    "customizations": "both, with defaults",
    "converse": "`chat`, `stream`, `system`",
}
"""What a row of the user's has where it says nothing."""

INTRODUCTION: Final = """\
# Models

Every foundation model that has a Bedrock id here. Behind each id stand open weights on your machine: the bundled base,
until you name others with `outcrop models use ID WEIGHTS`. `outcrop models list` tells which really run.

Numbers that AWS does not publish are marked `unverified` in [models.toml](../../outcrop/catalog/models.toml); a
[file of your own](#a-model-of-your-own) changes any of them.
"""

NOTES: Final = """
¹ AWS does not do this. It works here all the same; GetFoundationModel and ListFoundationModels do not tell of it.

Converse is what AWS's own model can do with it. Here it takes and gives text: documents, images and tools are refused
by name.
"""

OWN: Final = """\
## A model of your own

A table of TOML and no code. Name its file by the setting `catalog`, for example `OUTCROP_CATALOG=my-models.toml`:

```toml
[models."my.support-v1"]
weights = "/models/Qwen3-0.6B"            # or bundled:text; a relative path is read from where this file lies
body = "claude-messages"                  # the dialect of its requests and answers

# Everything else has a default. A second model says more:
[models."my.legal-v1"]
name = "Legal"
weights = "/models/Llama-3.2-1B"
body = "llama"
inference = { max_tokens = 4096 }
engine = "vllm serve --dtype bfloat16"    # instead of our own engine; see below

[models."my.legal-v1".customizations.FINE_TUNING]
format = "conversation"
hyperparameters = "llama"                 # a table of ours, of this file, or written out here
quotas = { max_records = 50_000, reserved = ["<secret>"] }

# A quota of one of ours, changed for this server alone.
[models."amazon.titan-text-express-v1".customizations.FINE_TUNING.quotas]
max_sum_records = 10_000
```

`weights` and `body` are all that a model must say. Its ids look like AWS's: lower-case letters, digits and hyphens,
one dot, and up to two parts after colons. Without `customizations` it can be fine-tuned, on lines that go with its body
(`messages` for `claude-messages`, `conversation` for `nova`, else `prompt-completion`), and pre-trained further.

`engine` has vLLM serve the model and its custom models: the command that starts it, with whatever options of vLLM's
suit the machine (`/opt/vllm/bin/vllm serve --gpu-memory-utilization 0.4`, `env CUDA_VISIBLE_DEVICES=1 vllm serve`). A
relative path of the program is read from where this file lies. The server adds the weights, a socket, a key, and room
for adapters: `--max-loras 16`, `--max-cpu-loras 256` and `--max-lora-rank 64` unless the command says otherwise. Custom
models are loaded and dropped while it runs. What differs from our own engine stands in
[decisions](../decisions/vllm.md). Nobody has run vLLM itself behind this server yet: what is tested is a
stand-in that takes its command line and speaks its verbs.

A table with the id of one of ours is laid over it, member by member; so are the tables that rows share by name
(`[hyperparameters.llama]`, `[quotas.claude]`, …). Whatever is misspelt or out of its range is refused at the start,
with file, row, field and what may stand there.

A hyperparameter takes `auto`, in any letter case, where its `words` have it: it is echoed as typed and means the number
in its column `auto`, or its default.
"""


def models_page(catalog: Catalog) -> str:
    """Every model: its ids, data, hyperparameters, quotas, dialect, prices."""
    lines = [
        INTRODUCTION,
        *overview(catalog),
        NOTES,
        *(line for row in catalog.rows for line in model(row)),
        "## Hyperparameters of our own",
        "",
        "Every model takes these beside its own. They are echoed only when they are given.",
        "",
        *table(
            ("name", "values", "meaning; what stands when it is not given"),
            ((f"`{name}`", values(rule), MEANING[name]) for name, rule in OURS.items()),
        ),
        "",
        OWN,
        *reference(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def overview(catalog: Catalog) -> Iterator[str]:
    """One line a model."""
    return table(
        ("model", "id to customize", "fine-tuning data", "continued pre-training", "body", "Converse"),
        (
            (
                f"[{row.name}](#{anchor(row.name)})",
                f"`{row.long_id}`",
                f"`{row.customizations['FINE_TUNING'].format}`",
                "yes" + ("¹" if row.customizations["CONTINUED_PRE_TRAINING"].beyond_aws else ""),
                f"`{row.body}`",
                converse(row),
            )
            for row in catalog.rows
        ),
    )


def model(row: FoundationModel) -> Iterator[str]:
    """The section of one model."""
    others = [f"`{model_id}`" for model_id in row.provisioned_ids if model_id != row.long_id]
    yield f"## {row.name}"
    yield ""
    yield f"- To customize and to provision: `{row.long_id}`"
    yield f"- On demand: `{row.id}`"
    if others:
        yield f"- Also provisioned: {', '.join(others)}"
    for kind, way in row.customizations.items():
        yield f"- {CALLED[kind]}{'¹' if way.beyond_aws else ''}: lines of `{way.format}`. {sentence(way.quotas)}"
    yield f"- Inference: body `{row.body}`, at most {row.inference.max_tokens:,} new tokens. Converse: {converse(row)}."
    yield f"- On AWS: {row.provider}, {', '.join(row.regions) or 'in no region'}. {price_words(row.prices)}"
    yield f"- Weights here: `{row.weights}`, unless `outcrop models use` names others"
    yield ""
    ways = list(row.customizations.values())
    assert all(way.hyperparameters == ways[0].hyperparameters for way in ways), "one table is shown for all its ways"
    yield from table(
        ("hyperparameter", "type", "least", "most", "default", "meaning"),
        (
            (
                f"`{name}`",
                rule.type,
                f"{rule.min:g}",
                f"{rule.max:g}",
                f"`{rule.default}`" if rule.default else "none",
                MEANING[name],
            )
            for name, rule in ways[0].hyperparameters.items()
        ),
    )
    yield ""


def converse(row: FoundationModel) -> str:
    """What Converse can do with a model on AWS."""
    names = [name.replace("_", " ") for name in get_args(Feature) if name in row.converse]
    return ", ".join(names if "chat" in row.converse else ["one message only", *names]) if names else "no"


def price_words(prices: Prices) -> str:
    """List prices as a sentence."""
    parts = [
        (prices.training_per_1k_tokens, "${:g} for 1,000 training tokens"),
        (prices.storage_per_month, "${:.2f} a month for a custom model"),
        (prices.unit_hour, "${:.2f} an hour for a model unit"),
        (prices.unit_hour_one_month, "${:.2f} an hour for a model unit committed for one month"),
        (prices.unit_hour_six_months, "${:.2f} for one committed for six months"),
    ]
    named = [words.format(value) for value, words in parts if value is not None]
    return f"List prices: {', '.join(named)}." if named else "Its list prices are not known here."


def values(rule: Parameter) -> str:
    """What a hyperparameter of ours takes."""
    if rule.type == "word":
        return ", ".join(f"`{word}`" for word in rule.words)
    assert rule.min is not None
    assert rule.max is not None
    return f"{rule.type}, {rule.min:g} to {rule.max:,.10g}"


def reference() -> Iterator[str]:
    """Every column of every table."""
    for title, struct in (
        ('[models."ID"]', FoundationModel),
        ("inference", InferenceLimits),
        ("prices", Prices),
        ("customizations.FINE_TUNING, customizations.CONTINUED_PRE_TRAINING", CustomizationRow),
        ("one of hyperparameters", Parameter),
        ("quotas", Quotas),
        ("one of quotas.tokens", TokenQuota),
        ('[weights."NAME"]', WeightsRow),
    ):
        yield f"### {title}"
        yield ""
        filled = FILLED if struct is FoundationModel else {}
        yield from table(("column", "type", "default", "meaning"), column_docs(struct, filled))
        yield ""


def column_docs(struct: type[Struct], filled: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and docstring of each column, read from the source that defines it."""
    said = attributes(columns, struct.__name__)
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        default = filled.get(field.name) or default_words(field)
        yield f"`{field.name}`", type_words(field.type), default, said[field.name]


def default_words(field: inspect.Field) -> str:
    """A column's default as TOML would write it."""
    match field.default:
        case bool():
            return f"`{str(field.default).lower()}`"
        case str() | int():
            return f"`{field.default}`"
        case tuple() if field.default:
            return ", ".join(f"`{one}`" for one in field.default)
        case _:
            return "must be given" if field.required else "none"


def type_words(described: inspect.Type) -> str:
    """A type as a writer of TOML knows it."""
    match described:
        case inspect.Metadata():
            return type_words(described.type)
        case inspect.UnionType():
            return type_words(next(one for one in described.types if not isinstance(one, inspect.NoneType)))
        case inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in described.values)
        case inspect.VarTupleType() | inspect.FrozenSetType():
            items = type_words(described.item_type)
            return "list of tables" if items == "table" else f"list of {items}"
        case inspect.DictType() | inspect.StructType():
            return "table"
        case inspect.BoolType():
            return "true, false"
        case inspect.IntType():
            return "whole number"
        case inspect.FloatType():
            return "number"
        case _:
            return "text"
