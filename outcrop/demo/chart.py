"""The loss curve of a job as a picture."""

from collections.abc import Sequence
from pathlib import Path

from outcrop.jobs.events import Event


def draw_loss(events: Sequence[Event], path: Path, title: str) -> None:
    """Draw training loss a step, its smoothed line and validation loss, in nats a token, into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    steps = {event.members["step"]: event.members for event in events if event.kind == "step"}
    numbers, losses = [step + 1 for step in steps], [members["loss"] for members in steps.values()]
    smoothed = [members["smoothed_loss"] for members in steps.values()]
    evaluations = [event.members for event in events if event.kind == "eval" and event.members["validator"] == 0]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    axes.plot(numbers, losses, color="#c9d3e0", linewidth=1, label="training, each step")
    axes.plot(numbers, smoothed, color="#2563eb", linewidth=2, label="training, smoothed")
    if evaluations:
        axes.plot(
            [event["step"] + 1 for event in evaluations],
            [event["loss"] for event in evaluations],
            color="#ea580c",
            marker="o",
            linewidth=2,
            label="validation",
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
