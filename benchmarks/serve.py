"""Serving beside its peers, and through its own layers: one run, all sides in turn, each in a process of its own.

    python -m benchmarks.serve [--openvino openvino/bin/python] [--rivals rivals/bin/python] [--rounds 5]
    python -m benchmarks.serve --parts engine http stack control --models 40m
    python -m benchmarks.serve --quick                           # a minute or a few: shows that it works, no figures

Every side serves the same weights in the same dtype and answers the same prompts of 16 to 600 tokens (fixed seed) with
64 tokens each, greedy, the end token never made, by 1, 4, 16 and 64 concurrent callers, each of whom asks again when
answered. Counted are output tokens a second, prompts read included, and seconds to the first token: idle, and beside 15
other streams. `engine` is our engine called in its process, `http` the same as the gateway asks it, `stack` is
`outcrop serve` asked by boto3's InvokeModelWithResponseStream; sixteen adapters are measured against one within
`engine`. `control` times control-plane calls beside 256 open streams. A peer whose Python is not given is left
out, and the result says so. Writes results/serve.json after every round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.serve_load import LOAD_LEVEL, spread
from benchmarks.serve_models import MODELS, Asked, describe, make_adapters, make_model, make_prompts
from outcrop.commands.options import SPIN_COUNT
from outcrop.weights import choose_dtype, load_config

RIVALS: Final = Path(__file__).parent / "rivals"
RESULT: Final = Path(__file__).parent / "results" / "serve.json"

LEVELS: Final = {1: 4, 4: 8, 16: 48, 64: 128}
"""Concurrent requests to requests in all: enough that the last answers, with fewer beside them, count little."""
QUICK_LEVELS: Final = {1: 1, 4: 4}
NEW_TOKENS: Final = 64
PROBES: Final = 96
SPARE: Final = 64
"""Prompts of the streams that run beside the probes."""
ADAPTERS: Final = 16
ADAPTER_TURNS: Final = 3
CONTROL_CALLS: Final = 400
LONGEST: Final = 3600.0
"""Seconds that a side may take."""

OURS: Final = ("engine", "http", "stack", "control")
SIDES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    **{name: (f"benchmarks.serve_{name}", {}) for name in OURS},
    "transformers": ("serve_transformers.py", {}),
    "openvino": ("serve_openvino.py", {"cache_gib": 2}),
}
TARGETS: Final = {
    "engine / transformers at 1": 1.5,
    "engine / transformers at 16": 3.0,
    "engine / openvino at 16": 1.0,
    "sixteen adapters / one at 16": 0.75,
    "first token under load / idle, p95": 2.0,
    "stack / engine at 16": 0.9,
    "stack - engine, first token, ms": 15.0,
    "control p99 beside 256 streams, ms": 100.0,
}
AT_MOST: Final = ("first token under load / idle, p95", "stack - engine, first token, ms",
                  "control p99 beside 256 streams, ms")  # fmt: skip
"""Targets that a figure must not pass; the others it must reach."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One model's part of the run: its files, and what every side measured so far."""

    name: str
    folder: Path
    dtype: str
    """What our engine chooses on this machine: all sides compute in it, but OpenVINO, which chooses for itself."""
    prompts: list[Asked]
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def prepare(name: str, home: Path, options: argparse.Namespace) -> Bench:
    """Make a model, its adapters, its prompts, and what each side is told."""
    folder = make_model(name, home / name)
    made = make_adapters(folder, home / f"{name}-adapters", ADAPTERS)
    probes = 2 if options.quick else PROBES
    levels, spare = {}, 0
    for level, count in options.levels.items():
        levels[level] = {"warm": spare, "start": spare + level, "count": count}
        spare += level + count
    prompts = make_prompts(folder, spare + SPARE + probes)
    work = {
        "prompts": [asdict(prompt) for prompt in prompts],
        "levels": levels,
        "spare": spare,
        "new_tokens": 8 if options.quick else NEW_TOKENS,
        "probes": probes,
        "adapters": [str(path) for path in made],
        "adapter_turns": 1 if options.quick else ADAPTER_TURNS,
        "control_calls": 60 if options.quick else CONTROL_CALLS,
    }
    (home / f"{name}.json").write_text(json.dumps(work))
    if "openvino" in options.parts:
        script = str(RIVALS / "serve_openvino.py")
        call([options.openvino, script, "export", str(folder), str(home / f"{name}-openvino")], home / "log.txt")
    dtype = str(choose_dtype(load_config(folder), "auto", "cpu")).removeprefix("torch.")
    return Bench(name, folder, dtype, prompts)


def call(command: list[str], log: Path, **environment: str) -> None:
    """Run a child to its end; raises SystemExit with the last of what it wrote."""
    told = environment | os.environ
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=output, timeout=LONGEST, env=told, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed:\n{log.read_text()[-3000:]}")


def run(side: str, bench: Bench, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One side, once."""
    script, settings = SIDES[side]
    out, work = home / "out.json", str(home / f"{bench.name}.json")
    model = home / f"{bench.name}-openvino" if side == "openvino" else bench.folder
    files = [str(model), work, str(out)]
    if side in OURS:
        extra = ["32"] if side == "control" and options.quick else []
        # As `outcrop serve` has it for its engines; peers run as they come, alone on the machine.
        call([sys.executable, "-m", script, *files, *extra], home / "log.txt", GOMP_SPINCOUNT=SPIN_COUNT)
    else:
        python = options.openvino if side == "openvino" else options.rivals
        told = {"dtype": bench.dtype, **settings}
        call([python, str(RIVALS / script), *files, json.dumps(told)], home / "log.txt")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def summary(bench: Bench) -> dict[str, Any]:
    """Medians over the rounds of every side, and the figures that the targets are about."""
    sides = {side: _side(runs) for side, runs in bench.found.items() if side != "control"}
    found: dict[str, Any] = {"dtype": bench.dtype, "prompts": describe(bench.prompts), "sides": sides}
    if control := bench.found.get("control"):
        found["control"] = _control(control)
    if turns := [run["adapters"] for run in bench.found.get("engine", []) if "adapters" in run]:
        found["adapters"] = {kind: round(statistics.median(rate for turn in turns for rate in turn[kind]), 1)
                             for kind in ("one", "many")}  # fmt: skip
    if costs := [run["microseconds_a_token"] for run in bench.found.get("stack", [])]:
        found["microseconds_a_token"] = {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}
    found["goals"] = _goals(found)
    return found


def _side(runs: list[dict[str, Any]]) -> dict[str, Any]:
    levels = {}
    for level in runs[0]["levels"]:
        rates = [run["levels"][level]["tokens_per_second"] for run in runs]
        levels[level] = {"tokens_per_second": round(statistics.median(rates), 1), "spread": [min(rates), max(rates)]}
        if firsts := [first for run in runs for first in run["levels"][level].get("first", ())]:
            levels[level]["first"] = spread(firsts)
    found: dict[str, Any] = {"levels": levels, "peak_rss_mib": max(run["peak_rss_mib"] for run in runs)}
    for kind in ("first_idle", "first_loaded"):
        if values := [value for run in runs for value in run.get(kind, ())]:
            found[kind] = spread(values)
    return found


def _control(runs: list[dict[str, Any]]) -> dict[str, Any]:
    opened = [count for run in runs for count in run["streams_open"]]
    found: dict[str, Any] = {"streams_open": [min(opened), max(opened)]}
    for kind in ("idle", "busy"):
        found[kind] = {name: statistics.median(run[kind][name] for run in runs) for name in runs[0][kind]}
    return found


def _goals(found: dict[str, Any]) -> dict[str, float]:
    """Each target's figure, where its sides were measured."""
    sides, goals = found["sides"], {}

    def rate(side: str, level: int) -> float:
        return float(sides.get(side, {"levels": {}})["levels"].get(str(level), {}).get("tokens_per_second", 0.0))

    ratios = [(name, level) for name in ("transformers", "openvino") for level in (1, LOAD_LEVEL)]
    for rival, level in ratios:
        if (own := rate("engine", level)) and (other := rate(rival, level)):
            goals[f"engine / {rival} at {level}"] = own / other
    if (own := rate("stack", LOAD_LEVEL)) and (other := rate("engine", LOAD_LEVEL)):
        goals["stack / engine at 16"] = own / other
    if (own := rate("http", LOAD_LEVEL)) and (other := rate("engine", LOAD_LEVEL)):
        goals["http / engine at 16"] = own / other
    if "adapters" in found:
        goals["sixteen adapters / one at 16"] = found["adapters"]["many"] / found["adapters"]["one"]
    engine, stack = sides.get("engine", {}), sides.get("stack", {})
    if "first_loaded" in engine:
        goals["first token under load / idle, p95"] = engine["first_loaded"]["p95_ms"] / engine["first_idle"]["p95_ms"]
    if "first_idle" in engine and "first_idle" in stack:
        goals["stack - engine, first token, ms"] = stack["first_idle"]["median_ms"] - engine["first_idle"]["median_ms"]
    if "control" in found:
        goals["control p99 beside 256 streams, ms"] = found["control"]["busy"]["p99_ms"]
    return {name: round(value, 3) for name, value in goals.items()}


def show(console: Console, name: str, found: dict[str, Any]) -> None:
    """What was found, as tables."""
    levels = next(iter(found["sides"].values()))["levels"] if found["sides"] else {}
    table = Table(title=f"{name}: output tokens a second, and milliseconds to the first token (median, p95)")
    for head in ("side", *(f"at {level}" for level in levels), "first idle", "first loaded"):
        table.add_column(head, justify="left" if head == "side" else "right")
    for side, figures in found["sides"].items():
        firsts = [figures.get(kind) for kind in ("first_idle", "first_loaded")]
        told = [f"{each['median_ms']:.1f}, {each['p95_ms']:.1f}" if each else "–" for each in firsts]
        table.add_row(side, *(f"{each['tokens_per_second']:,.0f}" for each in figures["levels"].values()), *told)
    console.print(table)
    goals = Table("goal", "wanted", "found", title=f"{name}: goals")
    for goal, value in found["goals"].items():
        wanted = TARGETS.get(goal)
        if wanted is None:
            goals.add_row(goal, "", f"{value:g}")
            continue
        good = value <= wanted if goal in AT_MOST else value >= wanted
        sign, colour = ("≤" if goal in AT_MOST else "≥"), ("green" if good else "red")
        goals.add_row(goal, f"{sign} {wanted:g}", f"[{colour}]{value:g}[/{colour}]")
    console.print(goals)
    for place, cost in found.get("microseconds_a_token", {}).items():
        console.print(f"{place}: {cost:.0f} µs of processor time a streamed token")


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--parts", nargs="+", choices=list(SIDES), default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", default=sys.executable, help="Python with transformers; default: this one")
    parser.add_argument(
        "--openvino", help="Python of rivals/requirements-openvino.txt; without it that side is left out"
    )
    parser.add_argument("--quick", action="store_true", help="one short round that shows that everything works")
    parser.add_argument("--out", type=Path, help="default: results/serve.json; --quick writes no file by itself")
    options = parser.parse_args()
    options.models = options.models or (["base"] if options.quick else list(MODELS))
    options.parts = options.parts or [side for side in SIDES if side != "openvino" or options.openvino]
    if "openvino" in options.parts and not options.openvino:
        parser.error("--parts openvino needs --openvino, the Python of its environment")
    options.levels = QUICK_LEVELS if options.quick else LEVELS
    options.rounds = 1 if options.quick else options.rounds
    options.out = options.out or (None if options.quick else RESULT)
    return options


def result(benches: list[Bench], options: argparse.Namespace, rounds: int, load: list[float]) -> dict[str, Any]:
    """The content of the file."""
    return {
        "what": f"{NEW_TOKENS} new tokens a request, greedy, closed loop, sides alternating",
        "machine": machine("outcrop", "torch", "transformers", "boto3", "granian"),
        "rivals": [line for name in ("requirements.txt", "requirements-openvino.txt")
                   for line in (RIVALS / name).read_text().splitlines() if not line.startswith("#")],
        "left_out": [side for side in SIDES if side not in options.parts],
        "levels": options.levels,
        "rounds": rounds,
        "load_at_start": load[0],
        "load_at_end": load[-1],
        "targets": TARGETS,
        "models": {bench.name: summary(bench) for bench in benches},
    }  # fmt: skip


def main() -> None:
    """Run every side in turn, round by round, and write the result."""
    options, console = asked(), Console()
    load = [os.getloadavg()[0]]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="outcrop-serve-") as name:
        home = Path(name)
        benches = [prepare(model, home, options) for model in options.models]
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=options.rounds * len(benches) * len(options.parts))
            for turn in range(options.rounds):
                for bench in benches:
                    for side in options.parts:
                        progress.update(task, description=f"round {turn + 1}: {bench.name}, {side}")
                        began = time.monotonic()
                        bench.found.setdefault(side, []).append(run(side, bench, home, options))
                        progress.console.print(f"{turn + 1} {bench.name} {side}: {time.monotonic() - began:.0f} s")
                        progress.advance(task)
                load.append(os.getloadavg()[0])
                if options.out:
                    options.out.parent.mkdir(exist_ok=True)
                    content = result(benches, options, turn + 1, load)
                    options.out.write_text(json.dumps(content, indent=2) + "\n")
    for bench in benches:
        show(console, bench.name, summary(bench))


if __name__ == "__main__":
    main()
