"""A plan on a terminal: what the job will do, how long it takes, what it needs and costs.

Knows Rich and the estimate; nothing of how any number of it came about. Made for 80 columns and wider ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from outcrop.commands.report_view import counted, facts, histogram, inset, size
from outcrop.estimate.calibration import Calibration
from outcrop.estimate.duration import Duration
from outcrop.estimate.estimate import Estimate
from outcrop.estimate.foresight import Foresight, Unfit
from outcrop.estimate.price import Price
from outcrop.estimate.proposal import Proposal
from outcrop.estimate.room import DiskNeed, MemoryNeed
from outcrop.estimate.survey import Survey
from outcrop.sources.fit import DEARER
from outcrop.terminal import harmless

STAGES = {
    "tokenising": "writing the records in the model's own tokens …",
    "calibrating": "taking a few real training steps …",
}

BUSY = 0.3
"""Share of the cores that others used, from which on it is said."""

Rows = list[tuple[str, str | Text]]


@contextmanager
def steps_shown(console: Console) -> Iterator[Callable[[str, float | None], None]]:
    """What is done now, on standard error while it lasts."""
    with console.status("") as status:
        yield lambda stage, share: status.update(STAGES[stage] + ("" if share is None else f" {share:.0%}"))


def show_plan(console: Console, job: Proposal, checked: Survey, found: Estimate) -> None:
    """The whole plan."""
    console.print(Text.assemble((job.customization, "bold"), " of ", (job.model_name, "bold")))
    given = ", ".join(f"{name} {value}" for name, value in job.hyperparameters.items())
    spec = found.spec
    tuned = f"LoRA of rank {spec.lora_rank}" if spec.method == "lora" else "all weights"
    rows: Rows = [
        ("id", job.model_id),
        *([("starts from", job.base_arn)] if spec.parent_arn else []),
        ("hyperparameters", given),
        ("runs on", f"{spec.base_name}, {tuned}, learning rate {found.learning_rate:.3g}"),
    ]
    console.print(facts(rows))
    for warning in job.warnings:
        console.print(inset(Text(harmless(warning), style="yellow")))
    if isinstance(found.plan, Unfit):
        _unfit(console, found.plan)
        return
    _section(console, "work", _work(found.plan, checked))
    console.print()
    what = ("tokens of a document", "documents") if found.plan.packed else ("tokens of an example", "examples")
    console.print(inset(histogram(found.plan.lengths, *what)))
    if found.duration is not None and found.calibration is not None:
        _section(console, "time on this machine", _time(found.duration, found.calibration))
    else:
        _section(console, "time on this machine", [("unknown", found.unknown or "")])
    if found.memory is not None and found.disk is not None:
        _section(console, "memory and disk", _room(found.memory, found.disk, spec.method))
    _section(console, "price", _price(found.price))
    _notes(console, checked)
    console.print()
    console.print("[bold green]nothing was started[/bold green]  a job would take this dataset")


def clock(seconds: float) -> str:
    """A span for people: 8 s, 3 min 20 s, 5 h 12 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, scale, smaller, under in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= scale:
            rest = whole % scale // under
            return f"{whole // scale} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def dollars(amount: float) -> str:
    """US dollars; small amounts keep two digits that say something."""
    if amount == 0:
        return "$0"
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.2g}"


def _section(console: Console, title: str, rows: Rows) -> None:
    console.print()
    console.print(f"[bold]{title}[/bold]")
    console.print(facts(rows))


def _work(plan: Foresight, checked: Survey) -> Rows:
    about = "about " if plan.estimated else ""
    what = "sequences" if plan.packed else "examples"
    rows: Rows = [
        (what, f"{plan.examples:,}, {plan.batch_size:,} a step"),
        ("steps", f"{plan.steps:,}: {plan.epochs:,} epoch{'s' * (plan.epochs != 1)} of {plan.steps_per_epoch:,}"),
        ("tokens", f"{about}{plan.tokens:,} of the model's own, {plan.scored_tokens:,} of them scored"),
        ("an example", f"median {plan.lengths.median:,}, longest {plan.longest:,} tokens; none is cut"),
    ]
    if plan.packed:
        rows[3] = ("packed", f"{checked.reports[0].records:,} documents to the full length of {plan.longest:,} tokens")
    if plan.validation_examples:
        held = " held out of the training file" if plan.held_out else ""
        times = "once" if plan.evaluations == 1 else f"{plan.evaluations:,} times"
        what = (
            f"{counted(plan.validation_examples, 'example')}{held}, {about}{plan.validation_tokens:,} tokens, {times}"
        )
        rows.append(("validation", what))
    if plan.estimated:
        rows.append(("sampled", f"tokens were counted in {plan.sampled_examples:,} examples; --exact counts them all"))
    return rows


def _notes(console: Console, checked: Survey) -> None:
    """What is odd about the data and yet no fault."""
    rows: Rows = [
        (report.name, Text(remark, style="yellow")) for report in checked.reports for remark in report.remarks
    ]
    rows += [(leak.name, Text(str(leak), style="yellow")) for leak in checked.together.leaks]
    if rows:
        _section(console, "notes on the data", rows)


def _time(span: Duration, found: Calibration) -> Rows:
    where = found.device if found.device != "cpu" else counted(found.threads, "thread")
    cached = ", kept from an earlier plan" if found.cached else ""
    rows: Rows = [
        ("the whole job", Text(f"{clock(span.low)} to {clock(span.high)}", style="bold")),
        ("of it training", f"{clock(span.training)} at {span.tokens_per_second:,.0f} tokens/s"),
    ]
    if span.evaluation >= 1:
        rows.append(("evaluation", clock(span.evaluation)))
    other = span.likely - span.training - span.evaluation
    rows.append(("the rest", f"{clock(other)}: check, tokenise, load the weights, save"))
    rows.append(("measured", f"{found.steps} real training steps on {where} in {found.dtype}{cached}"))
    if found.load >= BUSY:
        what = f"the machine did other work meanwhile ({found.load:.0%} of its cores), so the range is wide"
        rows.append(("", Text(what, style="yellow")))
    return rows


def _room(memory: MemoryNeed, disk: DiskNeed, method: str) -> Rows:
    measured = memory.source == "calibration"
    need = f"{size(memory.needed)}, measured in the largest step"
    if not measured:
        need = f"{size(memory.low)} to {size(memory.high)}, reckoned and not measured"
    activations = f"{size(memory.activations)} activations"
    if not memory.known:
        need, activations = "what its layers keep is not reckoned", "unknown activations"
    parts = (
        f"{size(memory.parameters)} weights, {size(memory.gradients)} gradients, {size(memory.optimizer)} optimizer, "
        f"{activations}, {size(memory.process)} the program itself"
    )
    rows: Rows = [("memory", _there(memory, need)), ("", parts)]
    if memory.recomputed:
        dearer = "as the time above has it" if measured else DEARER[method]
        what = f"layers are computed again on their way back, {dearer}: otherwise about {size(memory.otherwise)}"
        rows.append(("", Text(what, style="yellow")))
    return [
        *rows,
        ("disk", _enough(f"{size(disk.needed)} while it runs", size(disk.free), disk.fits)),
        ("", f"{size(disk.result)} stay: the finished weights"),
    ]


def _there(memory: MemoryNeed, need: str) -> Text:
    """What is needed beside what there is, as far as that is known."""
    if memory.available is None:
        return Text(f"{need}, of a GPU's: this machine has one, and only training steps tell what is free of it")
    if not memory.known:
        return Text(f"{need}; {size(memory.available)} are free", style="yellow")
    if memory.low <= memory.available < memory.high:
        return Text(f"{need}; {size(memory.available)} are free: it may be too little", style="yellow")
    return _enough(need, size(memory.available), memory.fits is not False)


def _enough(need: str, there: str, fits: bool) -> Text:
    if fits:
        return Text(f"{need}; {there} are free")
    return Text(f"{need}; only {there} are free: the job would fail", style="bold red")


def _price(price: Price) -> Rows:
    rows: Rows = []
    if price.aws_training is None:
        rows.append(("AWS", f"no list price is known; it would charge for {price.tokens:,} tokens"))
    else:
        rows.append(("AWS", f"{dollars(price.aws_training)} by its list price: {price.tokens:,} tokens of all epochs"))
    if price.aws_storage_month is not None:
        rows.append(("", f"and {dollars(price.aws_storage_month)} a month to keep the model"))
    if price.aws_unit_hour is not None:
        rows.append(("", f"and {dollars(price.aws_unit_hour)} an hour for each model unit that serves it"))
    if price.machine_hour is None:
        rows.append(("here", "$0 beyond your own machine (the setting machine_cost_per_hour says what that costs)"))
    elif price.ours_high == 0:
        rows.append(("here", f"unknown, as the time is; the machine costs {dollars(price.machine_hour)} an hour"))
    else:
        span = f"{dollars(price.ours_low)} to {dollars(price.ours_high)}"
        rows.append(("here", f"{span} at {dollars(price.machine_hour)} an hour of this machine"))
    return rows


def _unfit(console: Console, plan: Unfit) -> None:
    """Why there is no plan."""
    console.print()
    console.print(Text.assemble(("failed", "bold red"), f"  {counted(plan.count, 'example')}. A job would say:"))
    console.print(inset(Text(harmless(plan.failure) + "\n", style="red")))
    for name, fault in plan.faults:
        console.print(inset(Text(harmless(f"{name}, line {fault.line:,}: {fault.reason}"))))
    way_out = (
        "Nothing is ever cut: shorten them, or put weights with a longer context behind the id: outcrop models use."
    )
    console.print(inset(Text(way_out, style="dim")))
