"""The whole demo in its order, and the report it leaves: every number in it was measured in this run."""

import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from outcrop.catalog.catalog import Catalog
from outcrop.demo import flow, screen
from outcrop.demo.chart import draw_loss
from outcrop.demo.guide import evaluate_model
from outcrop.demo.server import point_boto3_at, served
from outcrop.directory import DataDirectory
from outcrop.jobs.events import Event, Follower
from outcrop.watch.screen import Screen, live
from outcrop.watch.story import Story


def run(directory: DataDirectory, console: Console) -> dict[str, Any]:
    """Run the guide's flow over this data directory; return the report that is also written beside it."""
    began = time.monotonic()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = directory.root / "demo"
    with served(directory) as server:
        screen.heading(console, 1, "Server", f"{server.endpoint}, data in {directory.root}")
        point_boto3_at(directory, server.endpoint)
        data = flow.make_dataset(folder)
        flow.upload(folder)
        counts = " · ".join(f"{len(data[split]):,} {split}" for split in flow.SPLITS)
        screen.heading(console, 2, "Dataset", f"{counts} pairs → s3://{flow.BUCKET}/training/")
        job = flow.submit(stamp)
        screen.heading(console, 3, "Customization job", job.arn)
        answer, events = _train(job, directory, console)
        screen.heading(console, 4, "Provisioned Throughput", f"1 model unit for {job.model_name}")
        throughput = flow.provision(job, stamp)
        console.print(f"   InService: {throughput}", highlight=False, soft_wrap=True)
        screen.heading(console, 5, "Evaluation", f"base {flow.BASE} against the custom model")
        base, base_results = _evaluate("base", flow.BASE, data["test"], console)
        custom, custom_results = _evaluate("custom", throughput, data["test"], console)
    console.print(screen.accuracy_table(flow.BASE, base, custom, len(data["test"])))
    console.print(screen.side_by_side(_samples(data["test"], base_results, custom_results)))
    draw_loss(events, folder / "loss.png", f"{len(data['train']):,} pairs, LoRA on {flow.BASE}")
    report = {
        "base_accuracy": base,
        "custom_accuracy": custom,
        "seconds": round(time.monotonic() - began, 1),
        **_measures(answer, events),
        "cost": _cost(data["train"]),
        "job": job.arn,
        "throughput": throughput,
        "weights": _weights(directory, answer),
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "date": datetime.now(UTC).date().isoformat(),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    _files(console, directory, folder, job)
    return report


def _train(job: flow.Submitted, directory: DataDirectory, console: Console) -> tuple[dict[str, Any], list[Event]]:
    """Follow the job with the screen of `outcrop watch`; return its last answer and its events."""
    follower = Follower(directory.work / job.id / "events.jsonl")
    events: list[Event] = []
    shown = Screen(Story())

    def tick() -> None:
        for event in follower.new():
            events.append(event)
            shown.story.add(event)

    with live(console, shown):
        answer = flow.follow(job, tick)
    return answer, events


def _evaluate(
    name: str, model_id: str, test: Sequence[dict[str, str]], console: Console
) -> tuple[float, list[dict[str, Any]]]:
    """The guide's evaluate_model over the whole test set, slice by slice so that its bar moves."""
    results: list[dict[str, Any]] = []
    with screen.counted(console, name, len(test)) as move:
        for part in flow.slices(test):
            results += evaluate_model(model_id, part)[1]
            right = sum(result["match"] for result in results)
            move(len(part), f"{right} of {len(results)} correct")
    return sum(result["match"] for result in results) / len(results), results


def _samples(
    test: Sequence[dict[str, str]], base: Sequence[Mapping[str, Any]], custom: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, str, str]]:
    """Three prompts with both answers: the first of each language and the last, whether they came out right or not."""
    japanese = [index for index, pair in enumerate(test) if not pair["prompt"].isascii()]
    english = [index for index, pair in enumerate(test) if pair["prompt"].isascii()]
    return [
        (test[index]["prompt"], test[index]["completion"], base[index]["predicted"], custom[index]["predicted"])
        for index in (*japanese[:1], *english[:1], len(test) - 1)
    ]


def _measures(answer: Mapping[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    """Loss, perplexity and speed as the run measured them."""
    done = next(event.members for event in reversed(events) if event.kind == "done")
    steps = [event.members for event in events if event.kind == "step"]
    return {
        "train_tokens_per_second": round(
            sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps), 1
        ),
        "trained_tokens": done["tokens"],
        "training_seconds": round(done["seconds"], 1),
        "training_loss": answer["trainingMetrics"]["trainingLoss"],
        "validation_loss": answer["validationMetrics"][0]["validationLoss"],
        "perplexity": done["perplexity"],
    }


def _weights(directory: DataDirectory, answer: Mapping[str, Any]) -> str:
    """The base that really ran, as the custom model's lineage tells it."""
    model_id = answer["outputModelArn"].rsplit("/", 1)[-1]
    lineage = json.loads((directory.models / model_id / "lineage.json").read_text("utf-8"))
    name: str = lineage["base"]["name"]
    return name


def _cost(train: Sequence[dict[str, str]]) -> dict[str, Any]:
    """What AWS's list prices make of the same job; tokens as its quotas count them, six characters each."""
    row = Catalog.load().find(flow.BASE)
    assert row is not None  # the demo's own base
    characters = sum(len(pair["prompt"]) + len(pair["completion"]) for pair in train)
    quotas = row.customizations["FINE_TUNING"].quotas
    tokens = characters // quotas.characters_per_token * int(flow.HYPERPARAMETERS["epochCount"])
    price = row.prices.training_per_1k_tokens
    return {
        "tokens_as_aws_counts": tokens,
        "aws_training_usd": None if price is None else round(tokens / 1000 * price, 4),
        "aws_storage_usd_a_month": row.prices.storage_per_month,
        "aws_provisioned_usd_an_hour": row.prices.unit_hour,
    }


def _files(console: Console, directory: DataDirectory, folder: Path, job: flow.Submitted) -> None:
    """Where everything lies, and how to go on."""
    console.print("[bold]Where everything lies[/bold]")
    for path, what in (
        (folder / "report.json", "every number of this run"),
        (folder / "loss.png", "the loss curve"),
        (folder / "test.jsonl", "the prompts that nobody trained on"),
        (directory.work / job.id, "the job: plan, events, log"),
    ):
        console.print(f"  {path}  [dim]{what}[/dim]", highlight=False)
    console.print(f"  {job.output}  [dim]metrics and reports in S3[/dim]", highlight=False)
    command = shlex.quote(_command())
    console.print("[bold]Go on[/bold]")
    for line in (
        f"{command} serve --data {shlex.quote(str(directory.root))} &",
        f'eval "$({command} env --data {shlex.quote(str(directory.root))})"',
        "aws bedrock list-custom-models",
    ):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _command() -> str:
    """How the person at this terminal calls outcrop: by its name if it is on their path, else by where it lies."""
    if shutil.which("outcrop"):
        return "outcrop"
    beside = Path(sys.executable).with_name("outcrop")
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
