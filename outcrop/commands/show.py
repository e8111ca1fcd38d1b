"""outcrop models show: where a custom model comes from, down to the foundation weights, as its lineage tells it.

Reads the store and lineage.json beside the weights; works whether a server runs or not.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from outcrop.commands.options import FLAG, Data, open_store, settings_from
from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.records import Model
from outcrop.terminal import harmless_json

if TYPE_CHECKING:
    from outcrop.store.store import Store

HASH_SHOWN = 12
"""Characters of a hash that the tree shows; --json has all of them."""

Story = Mapping[str, Any]


def show_model(
    identifier: Annotated[
        str, typer.Argument(metavar="NAME|ARN|ID", help="A custom model's name, ARN, or 12-letter id.")
    ],
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", metavar=FLAG, help="All of it as JSON.")] = False,
) -> None:
    """Where a custom model comes from: base, data, hyperparameters, metrics and hashes of every customization."""
    settings = settings_from(data=data)
    with open_store(data) as store:
        model = _find(store, identifier, settings.region)
        folder = DataDirectory(settings.data.absolute()).models / model.id
        story = _story(model, folder)
        kept = {link["model_arn"] for link in _links(model, story) if store.models.by_arn(link["model_arn"])}
    if as_json:
        told = {"model": _document(model, folder), "lineage": story}
        print(harmless_json(json.dumps(told, ensure_ascii=False, indent=2)))
    else:
        Console(highlight=False).print(_tree(model, folder, story, kept))


def _find(store: "Store", identifier: str, region: str) -> Model:
    """The one model that is meant; of several of a name in different regions, that of the settings' region."""
    found = store.models.named(identifier)
    here = [model for model in found if model.region == region] or found
    if len(here) == 1:
        return here[0]
    if here:
        raise OutcropError(f"{identifier!r} names {len(here)} models; give the ARN: {', '.join(m.arn for m in here)}")
    names = ", ".join(store.models.names()) or "none yet"
    raise OutcropError(
        f"there is no custom model {identifier!r} in this data directory; there are: {names}. "
        "Foundation models: outcrop models list"
    )


def _story(model: Model, folder: Path) -> dict[str, Any]:
    path = folder / "lineage.json"
    try:
        story: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise OutcropError(f"{path}, the lineage of {model.arn}, cannot be read: {fault}") from fault
    return story


def _links(model: Model, story: Story) -> list[dict[str, Any]]:
    """The customizations, first one first; the last is the model itself."""
    return [*story.get("ancestors", []), {**story, "model_arn": model.arn, "model_name": model.name}]


def _document(model: Model, folder: Path) -> dict[str, Any]:
    return {
        "arn": model.arn,
        "id": model.id,
        "name": model.name,
        "region": model.region,
        "status": model.status,
        "created": model.created.isoformat(),
        "baseModelId": model.base_model_id,
        "baseModelArn": model.document["baseModelArn"],
        "jobArn": model.job_arn,
        "weights": {"folder": str(folder), "kind": "model" if model.method == "full" else "adapter"},
        "baseWeights": model.base_weights,
    }


def _tree(model: Model, folder: Path, story: Story, kept: set[str]) -> Tree:
    """The foundation weights at the root, one branch in the other for every customization."""
    links = _links(model, story)
    base = links[0]["base"]
    tree = branch = Tree(_label(Text(model.base_model_id, "bold"), _base_rows(base)), guide_style="dim")
    for link in links[:-1]:
        branch = branch.add(_label(_title(link, kept), _rows(link)))
    rows = [
        *_rows(links[-1]),
        ("made", f"{model.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("lies in", str(folder)),
        ("arn", model.arn),
    ]
    branch.add(_label(_title(links[-1], kept), rows))
    return tree


def _label(title: Text, rows: list[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return Group(title, table)


def _title(link: Story, kept: set[str]) -> Text:
    title = Text(link.get("model_name") or link["model_arn"], "bold")
    title.append(f"  {link.get('customization', '')}", "cyan")
    if link["model_arn"] not in kept:
        title.append("  deleted since", "yellow")
    return title


def _base_rows(base: Story) -> list[tuple[str, str]]:
    template = "the tokenizer's own" if base.get("own_template") else "of the house"
    return [
        ("weights", f"{base['name']}, sha256 {_short(base['sha256'])}"),
        ("tokenizer", f"sha256 {_short(base['tokenizer_sha256'])}"),
        ("template", f"{template}, sha256 {_short(base.get('template_sha256'))}"),
    ]


def _rows(link: Story) -> list[tuple[str, str]]:
    """What one customization was made of and what came out."""
    asked = link["hyperparameters"]["asked"]
    return [
        *_data_rows(link),
        ("asked", ", ".join(f"{name} {value}" for name, value in asked.items())),
        ("method", _method(link["hyperparameters"]["effective"])),
        ("steps", _steps(link)),
        ("loss", _losses(link["result"])),
        ("weights", f"{link['result'].get('weights', '')}, sha256 {_short(link['result'].get('sha256'))}"),
        ("run by", _runner(link)),
        ("ids", f"model {_id(link['model_arn'])}, job {_id(link['job_arn'])}"),
    ]


def _data_rows(link: Story) -> Iterator[tuple[str, str]]:
    for dataset in link["datasets"]:
        name = "data" if dataset["purpose"] == "train" else "validation"
        yield name, f"{dataset['uri']}, {dataset['records']:,} records, sha256 {_short(dataset['sha256'])}"


def _method(effective: Story) -> str:
    if effective["method"] == "full":
        return "full"
    return f"lora, rank {effective['lora_rank']}, alpha {effective['lora_alpha']:g}"


def _steps(link: Story) -> str:
    plan, effective = link["plan"], link["hyperparameters"]["effective"]
    early = ", stopped early" if link["result"].get("stopped_early") else ""
    examples = f" examples {link['result']['examples']:,}," if "examples" in link["result"] else ""
    return (
        f"{link['result'].get('steps', plan['steps']):,} of {plan['steps']:,}{early}: epochs {plan['epochs']}, "
        f"batch {plan['batch_size']},{examples} tokens {link['result']['tokens']:,}, learning rate "
        f"{effective['learning_rate']:.3g}, warm-up {effective['warmup_steps']}, seed {effective['seed']}"
    )


def _losses(result: Story) -> str:
    validation = ", ".join(map(_loss, result["validation_losses"]))
    return f"training {_loss(result['training_loss'])}" + (f", validation {validation}" if validation else "")


def _loss(loss: float) -> str:
    """A mean loss of a token, with the perplexity that it means."""
    return f"{loss:.4f} (perplexity {math.exp(min(loss, 700.0)):.4g})"


def _runner(link: Story) -> str:
    machine, versions = link["machine"], link["versions"]
    code = versions["outcrop"]
    told = code if isinstance(code, str) else code["version"]
    if not isinstance(code, str) and code["commit"]:
        told += f" (commit {_short(code['commit'])}{', changed' if code['changed'] else ''})"
    return f"outcrop {told}, torch {versions['torch']}, on {machine['device']} in {machine['dtype']}"


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]


def _short(digest: str | None) -> str:
    return digest[:HASH_SHOWN] if digest else "unknown"
