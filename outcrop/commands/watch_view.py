"""What outcrop watch says of a job beyond its events: the lines above and below them, from the store's own record."""

import shlex

from outcrop.records import Job
from outcrop.terminal import harmless
from outcrop.watch import words
from outcrop.watch.story import Story


def heading(job: Job, weights: str | None) -> tuple[str, ...]:
    """Which job, and which weights really run."""
    kind = job.request.get("customizationType", "FINE_TUNING")
    return (
        job.name,
        " · ".join([job.base_model_id, kind, *([f"weights {harmless(weights)}"] if weights else [])]),
    )


def waiting(job: Job, story: Story, *, served: bool) -> tuple[str, ...]:
    """Why nothing seems to happen."""
    if not served:
        return ("no server runs on this data directory: start it with `outcrop serve`",)
    if job.status == "Stopping":
        return ("the job was asked to stop",)
    if all(part.status == "NotStarted" for part in story.parts.values()):
        return ("the job waits for its turn",)
    return ()


def ending(job: Job, story: Story) -> tuple[str, ...]:
    """How a job ended and what came of it; where its own files are gone, in the store's numbers."""
    lines = [f"{job.status}{_took(job)}"]
    if job.failure:
        lines.append(harmless(job.failure))
    if story.ending is None or story.ending.kind != "done":
        lines += _measured(job)
    if job.model_arn:
        name = job.request["customModelName"]
        lines.append(f"model {name}: outcrop models show {shlex.quote(name)}")
    return tuple(lines)


def _took(job: Job) -> str:
    return f" after {words.clock((job.ended - job.created).total_seconds())}" if job.ended else ""


def _measured(job: Job) -> list[str]:
    """The store's numbers of a job whose events are gone."""
    metrics = job.metrics
    lines = []
    if "trainingMetrics" in metrics:
        told = f"training loss {metrics['trainingMetrics']['trainingLoss']:.4f}"
        losses = [f"{one['validationLoss']:.4f}" for one in metrics.get("validationMetrics", [])]
        lines.append(told + (f" · validation loss {', '.join(losses)}" if losses else ""))
    if "tokens" in metrics:
        counted = [f"{metrics['tokens']:,} tokens trained"]
        if metrics.get("examples") is not None:
            counted.insert(0, f"{metrics['examples']:,} examples")
        if metrics.get("examplesPerSecond") is not None:
            counted.append(f"{metrics['examplesPerSecond']:,.4g} examples/s")
        lines.append(" · ".join(counted))
    return lines
