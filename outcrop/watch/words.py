"""Numbers and events in words, as the screen and the lines both say them. Knows the events' members and no terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from outcrop.jobs.events import Event
from outcrop.watch.story import TITLES


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds: 0:07, 12:30, 3:05:00."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def left(event: Event, now: datetime) -> str:
    """The time left as the latest step foretold it, less what has passed since; empty where it told none."""
    bounds: Sequence[float] | None = event.members.get("seconds_left")
    if bounds is None:
        return ""
    passed = max(0.0, (now - event.at).total_seconds())
    low, high = (clock(bound - passed) for bound in bounds)
    return f"{low} left" if low == high else f"{low} to {high} left"


def rate(members: Mapping[str, Any]) -> str:
    """How fast a step was: tokens and examples a second, and the share of the machine's matrix rate."""
    told = [f"{members['tokens_per_second']:,.0f} tokens/s"]
    if "examples_per_second" in members:
        told.append(f"{members['examples_per_second']:,.4g} examples/s")
    if "utilisation" in members:
        told.append(f"{members['utilisation']:.0%} of the matrix rate")
    return " · ".join(told)


def validation(losses: Mapping[int, float]) -> str:
    """One loss a validation set."""
    return ", ".join(f"{losses[validator]:.4f}" for validator in sorted(losses))


def plan(members: Mapping[str, Any]) -> str:
    """The sizes of a run."""
    return f"{members['examples']:,} examples · {members['tokens']:,} tokens · {members['steps']:,} steps"


def progress(members: Mapping[str, Any]) -> str:
    """How far a file is."""
    return f"{members['doing']} {members['file']}: {members['done'] / max(1, members['total']):.0%}"


def trained(members: Mapping[str, Any]) -> str:
    """What a finished run has trained, from its done event: what is billed, and how fast it was."""
    told = f"{members['tokens']:,} tokens trained"
    if "examples" in members:
        told = f"{members['examples']:,} examples · {told} · {members['examples_per_second']:,.4g} examples/s"
    return told


def losses(members: Mapping[str, Any]) -> str:
    """The losses of a done event."""
    told = f"training loss {members['training_loss']:.4f}"
    if members["validation_losses"]:
        told += f" · validation loss {', '.join(f'{loss:.4f}' for loss in members['validation_losses'])}"
    return told


def line(event: Event, planned: Mapping[str, Any]) -> str:
    """One event as one line without its time; planned: the plan event's members, once it came."""
    members = event.members
    match event.kind:
        case "part":
            return f"{TITLES[members['part']]}: {members['status']}"
        case "plan":
            return f"plan: {plan(members)}"
        case "progress":
            return progress(members)
        case "machine":
            return f"machine: {members['device']}, {members['matrix_flops_per_second'] / 1e9:,.0f} GFLOP/s"
        case "step":
            return _step(members, planned)
        case "eval":
            return f"validation set {members['validator'] + 1} after step {members['step'] + 1}: {members['loss']:.4f}"
        case "checkpoint":
            return f"checkpoint after step {members['step']}"
        case "log":
            return f"{members['level']}: {members['message']}"
        case "done":
            return f"done: {losses(members)} · {trained(members)}"
        case "stopped":
            return f"stopped after {members['step']} steps"
        case "failed":
            return f"failed: {members['message']}"
        case _:
            return f"{event.kind}: " + ", ".join(f"{name} {value}" for name, value in members.items())


def _step(members: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    of = f" of {planned['steps']}" if planned else ""
    smoothed = f" (smoothed {members['smoothed_loss']:.4f})" if "smoothed_loss" in members else ""
    told = [
        f"step {members['step'] + 1}{of}",
        f"loss {members['loss']:.4f}{smoothed}",
        f"learning rate {members['learning_rate']:.3g}",
        f"gradient norm {members['gradient_norm']:.3g}",
        rate(members),
    ]
    if "seconds_left" in members:
        low, high = map(clock, members["seconds_left"])
        told.append(f"{low} to {high} left")
    return " · ".join(told)
