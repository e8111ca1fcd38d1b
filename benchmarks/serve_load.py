"""What every side of the serving benchmark is asked, and what is measured of it: a closed loop of so many callers.

Knows how to ask (it is given a function) and how to take the time; nothing of engines, HTTP or AWS.
"""

import json
import resource
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

WARM_TOKENS: Final = 8
PROBE_TOKENS: Final = 2
"""A probe is asked for its first token; the second shows that it was one of a stream."""
LOAD_LEVEL: Final = 16
"""Requests at which first tokens are measured under load, the probe among them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer: seconds to its first piece, and its tokens."""

    first: float
    tokens: int


Ask = Callable[[dict[str, Any], int, str | None], Heard]
"""Takes a prompt {text, ids}, how many tokens to make, and an adapter's name; returns once the answer is whole."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be asked."""

    prompts: list[dict[str, Any]]
    """No prompt is asked twice of one process: a side that remembers what it read would not read it again."""
    levels: dict[int, dict[str, int]]
    """By concurrent requests: `count` requests in all, from the prompt `start` on, after a warm-up from `warm` on."""
    spare: int
    """Prompts from here on belong to no level."""
    new_tokens: int
    probes: int
    adapters: list[str]
    """Folders."""
    adapter_turns: int
    control_calls: int

    @classmethod
    def read(cls, path: Path) -> "Work":
        """As the benchmark wrote it."""
        document = json.loads(path.read_text())
        document["levels"] = {int(level): plan for level, plan in document["levels"].items()}
        return cls(**document)

    def asked(self, level: int) -> list[dict[str, Any]]:
        """A level's prompts; as many spare ones as callers where it has none."""
        plan = self.levels.get(level, {"start": self.spare, "count": level})
        return self.prompts[plan["start"] : plan["start"] + plan["count"]]


def measure(ask: Ask, work: Work) -> dict[str, Any]:
    """Throughput at every level, and first tokens on an idle side and under load."""
    found: dict[str, Any] = {"levels": {}}
    for level, plan in work.levels.items():
        closed_loop(ask, work.prompts[plan["warm"] : plan["warm"] + level], level, WARM_TOKENS)
        found["levels"][str(level)] = closed_loop(ask, work.asked(level), level, work.new_tokens)
    found["first_idle"], found["first_loaded"] = first_tokens(ask, work)
    return found


def adapters(ask: Ask, work: Work, names: Sequence[str]) -> dict[str, list[float]]:
    """Tokens a second at LOAD_LEVEL, all of one adapter against each of another, in turn."""
    prompts = work.asked(LOAD_LEVEL)
    rates: dict[str, list[float]] = {"one": [], "many": []}
    for turn in range(work.adapter_turns + 1):
        for kind in rates:
            prompts = [other_words(prompt) for prompt in prompts]
            chosen = [names[0] if kind == "one" else names[place % len(names)] for place in range(len(prompts))]
            rate = closed_loop(ask, prompts, LOAD_LEVEL, work.new_tokens, chosen)["tokens_per_second"]
            rates[kind] += [rate] if turn else []  # the first turn warms up
    return rates


def closed_loop(
    ask: Ask, prompts: Sequence[dict[str, Any]], level: int, tokens: int, models: Sequence[str] | None = None
) -> dict[str, Any]:
    """So many callers, each with its next prompt as soon as its last answer is whole."""
    waiting: SimpleQueue[tuple[dict[str, Any], str | None]] = SimpleQueue()
    for place, prompt in enumerate(prompts):
        waiting.put((prompt, models[place] if models else None))
    heard: list[Heard] = []

    def caller() -> None:
        while True:
            try:
                prompt, model = waiting.get_nowait()
            except Empty:
                return
            heard.append(ask(prompt, tokens, model))

    began = time.perf_counter()
    _together([caller] * level)
    seconds = time.perf_counter() - began
    made = [each.tokens for each in heard]
    if made != [tokens] * len(prompts):
        raise SystemExit(f"not every answer has {tokens} tokens: {sorted(set(made))}, {len(made)} of {len(prompts)}")
    return {
        "tokens_per_second": round(sum(made) / seconds, 1),
        "seconds": round(seconds, 3),
        "first": sorted(round(each.first, 5) for each in heard),
    }


def other_words(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt as long that begins otherwise: its first word at its end."""
    first, _, rest = prompt["text"].partition(" ")
    return {**prompt, "text": f"{rest} {first}"}


def first_tokens(ask: Ask, work: Work) -> tuple[list[float], list[float]]:
    """Seconds to the first token of the same probes: with nothing else asked, and beside LOAD_LEVEL - 1 streams."""
    probes = work.prompts[-work.probes :]
    idle = [ask(probe, PROBE_TOKENS, None).first for probe in probes]
    loaded: list[float] = []
    over = threading.Event()
    others = work.prompts[work.spare : -work.probes]

    def stream(start: int) -> None:
        prompt = others[start % len(others)]
        while not over.is_set():
            ask(prompt, work.new_tokens, None)
            prompt = other_words(prompt)

    def probe() -> None:
        try:
            ask(work.prompts[0], work.new_tokens, None)  # until all streams have begun
            loaded.extend(ask(other_words(each), PROBE_TOKENS, None).first for each in probes)
        finally:
            over.set()

    _together([probe, *(lambda start=start: stream(start) for start in range(LOAD_LEVEL - 1))])
    return idle, loaded


def _together(callers: Sequence[Callable[[], None]]) -> None:
    """Run callers at the same time; the first fault is raised once all have ended."""
    faults: list[BaseException] = []

    def guarded(caller: Callable[[], None]) -> None:
        try:
            caller()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=guarded, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def write(out: Path, result: dict[str, Any]) -> None:
    """Write what a side measured, with this process's own peak of memory."""
    result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    out.write_text(json.dumps(result))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    return {"median_ms": round(statistics.median(values) * 1e3, 2), "p95_ms": round(percentile(values, 0.95) * 1e3, 2)}
