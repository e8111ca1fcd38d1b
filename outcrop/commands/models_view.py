"""What `outcrop models` shows: the list of models, and what is known of weights that were just put behind one.

Knows the catalogue, sources and Rich; reads no settings and changes nothing.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outcrop.catalog.catalog import Catalog, WeightsChoice, effective_weights
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import OutcropError
from outcrop.sources.accept import Accepted
from outcrop.sources.look import look
from outcrop.sources.memory import gigabytes


@dataclass(frozen=True, slots=True)
class Listed:
    """One foundation model of the list."""

    id: str
    name: str
    provider: str
    customizations: dict[str, str]
    """The format of its datasets, by the kind of customization."""
    weights: str
    """What really runs, by name."""
    stands_in: bool
    """Whether those are the bundled weights and not any of the model's own kind."""
    engine: str = ""
    """The command that serves them; empty: our own engine."""
    parameters: int | None = None
    bytes: int | None = None
    dtype: str | None = None
    context: int | None = None
    missing: str | None = None
    """Why the weights cannot run; then their sizes are not known."""

    def document(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def listed(row: FoundationModel, choices: WeightsChoice, catalog: Catalog) -> Listed:
    """One row with the weights that really run; sizes come from the files' headers."""
    name = effective_weights(row, choices)
    kinds: dict[str, str] = {kind: way.format for kind, way in row.customizations.items()}
    known: dict[str, Any] = {}
    try:
        seen = look(catalog.weights_folder(name), name)
        known = {"parameters": seen.parameters, "bytes": seen.bytes, "dtype": seen.dtype, "context": seen.context}
    except OutcropError as fault:
        known = {"missing": str(fault)}
    return Listed(row.long_id, row.name, row.provider, kinds, name, name.startswith("bundled:"), row.engine, **known)


def show_list(console: Console, rows: list[Listed]) -> None:
    """A table; faults of weights stand under it in full."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("customized by", no_wrap=True)
    table.add_column("what runs", overflow="fold")
    for row in rows:
        ways = "\n".join(_way(kind, form) for kind, form in row.customizations.items())
        size = "[red]missing[/red]" if row.missing else count(row.parameters or 0)
        stands_in = " [yellow]stands in[/yellow]" if row.stands_in else ""
        served = f"\non {escape(row.engine)}" if row.engine else ""
        table.add_row(
            f"{row.id}\n[dim]{escape(row.name)}[/dim]",
            ways,
            f"{escape(_short(row.weights))}\n{size}{stands_in}{served}",
        )
    console.print(table)
    for fault in dict.fromkeys(row.missing for row in rows if row.missing):
        console.print(f"[red]missing:[/red] {escape(fault)}", soft_wrap=True)
    if any(row.stands_in for row in rows):
        console.print(
            "\n[yellow]stands in[/yellow]: small weights of this package answer in the model's place. "
            "`outcrop models use ID hf:org/repo` puts others there."
        )


def show_accepted(console: Console, found: Accepted) -> None:
    """What the weights are, what fits into memory here, and what is odd about them."""
    facts = Table.grid(padding=(0, 2))
    proof, seen = found.proof, found.seen
    facts.add_row("architecture", f"{proof.architecture}, {count(proof.parameters)} parameters")
    facts.add_row("stored as", f"{seen.dtype}, {gigabytes(seen.bytes)} in {escape(str(seen.folder))}")
    facts.add_row("computes in", f"{proof.dtype} on {escape(proof.device)}")
    facts.add_row("context", f"{seen.context:,} tokens" if seen.context else "no limit named")
    facts.add_row("chat template", "its own" if found.template else "none of its own: conversations in a plain form")
    facts.add_row("tried", "loaded; serving and training agree" if proof.loaded else "structure only, not loaded")
    for fit in found.fits:
        verdict = "[green]fits[/green]" if fit.fits else "[red]does not fit[/red]"
        facts.add_row(fit.use, f"{verdict}: at least {gigabytes(fit.needed)} of {gigabytes(fit.free)} free memory")
    console.print(facts)
    for remark in found.remarks:
        console.print(f"[yellow]note:[/yellow] {escape(remark)}", soft_wrap=True)


def count(number: int) -> str:
    """A number of parameters for people: 5.3M, 8.0B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return str(number)


def _way(kind: str, form: str) -> str:
    """The datasets' format; what is not fine-tuning is named."""
    return form if kind == "FINE_TUNING" else f"{form} ({kind.removeprefix('CONTINUED_').replace('_', '-').lower()})"


def _short(name: str) -> str:
    """A name with as much of its commit as people read; --json has all of it."""
    return re.sub(r"@([0-9a-f]{12})[0-9a-f]{28}$", r"@\1", name)
