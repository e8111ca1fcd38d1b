"""The screen fits its terminal and shows what the events say, at any moment of a job; lines say the same."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from outcrop.jobs.events import Event
from outcrop.watch.screen import Screen
from outcrop.watch.spark import MARK, spark
from outcrop.watch.story import Story
from outcrop.watch.words import clock, line

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ADVICE = "over-fitting: the validation loss rose from 0.9000 to 1.1000 and 1.4000 while the training loss fell " * 3


def told(kind: str, after: float, **members: Any) -> Event:
    return Event(START + timedelta(seconds=after), kind, members)


def step(number: int) -> Event:
    return told(
        "step", 10 + number, step=number, epoch=number // 100, loss=3.0 / (number + 1), perplexity=2.0, tokens=900,
        scored_tokens=90, seconds=0.5, tokens_per_second=1800.0, learning_rate=0.0042, gradient_norm=0.75,
        smoothed_loss=4.0 / (number + 1), examples=8, examples_per_second=16.0, utilisation=0.61,
        seconds_left=[50.0, 75.0],
    )  # fmt: skip


def whole() -> list[Event]:
    return [
        told("part", 0, part="validation", status="InProgress"),
        told("part", 2, part="validation", status="Completed"),
        told("part", 2, part="dataProcessing", status="InProgress"),
        told("plan", 4, examples=1600, tokens=270_000, steps=300, epochs=3, batch_size=8),
        told("part", 5, part="dataProcessing", status="Completed"),
        told("part", 5, part="training", status="InProgress"),
        told("machine", 6, device="cpu", matrix_flops_per_second=3.1e11),
        *[step(number) for number in range(150)],
        told("eval", 161, step=99, epoch=0, validator=0, loss=0.05, perplexity=1.1, tokens=50, seconds=1.0),
        told("checkpoint", 162, step=150),
        told("log", 163, level="info", message="resumed at step 150 of 300"),
        told("log", 164, level="warning", message=ADVICE, sign="overfitting"),
        told("log", 165, level="warning", message="the metric files could not be written"),
        step(150),
    ]


def drawn(events: list[Event], width: int, height: int, **more: Any) -> list[str]:
    story = Story()
    for event in events:
        story.add(event)
    now = START + timedelta(seconds=170)
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(Screen(story, ("my-job", "base · FINE_TUNING · weights bundled:text"), now=lambda: now, **more))
    assert isinstance(console.file, io.StringIO)
    return [row.rstrip() for row in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50), (60, 20)])
@pytest.mark.parametrize("count", [0, 1, 4, 8, 9, 60, 158, 165])
def test_every_moment_fits_every_terminal(width: int, height: int, count: int) -> None:
    rows = drawn(whole()[:count], width, height, status="InProgress", footing=("the job was asked to stop",))
    assert len(rows) <= height
    assert max(map(len, rows)) <= width


def test_the_reading_of_a_big_file_is_seen_while_it_lasts() -> None:
    begun = whole()[0]
    read = told(
        "progress", 1, part="validation", doing="tokenising", file="t.jsonl", done=30, total=120, unit="records"
    )
    assert line(read, {}) == "tokenising t.jsonl: 25%"
    assert "tokenising t.jsonl: 25%" in "\n".join(drawn([begun, read], 80, 24, status="InProgress"))
    assert "tokenising" not in "\n".join(drawn([begun, read, *whole()[1:4]], 80, 24, status="InProgress"))


def test_a_narrow_terminal_loses_no_number() -> None:
    text = "\n".join(drawn(whole(), 80, 24, status="InProgress"))
    for said in (
        "my-job  InProgress",
        "weights bundled:text",
        "data processing",
        "1,600 examples · 270,000 tokens · 300 steps",
        "step 151 of 300 · epoch 2 of 3",
        "loss 0.0265 smoothed · 0.0199 in this step",
        f"{MARK} validation loss 0.0500 after step 100",
        "learning rate 0.0042 · gradient norm 0.75",
        "1,800 tokens/s · 16 examples/s · 61% of the matrix rate",
        "0:40 to 1:05 left · checkpoint after step 150",
        "! over-fitting: the validation loss rose",
        "! the metric files could not be written",
    ):
        assert said in text, said


def test_before_anything_was_told_all_parts_wait() -> None:
    rows = drawn([], 80, 24, status="InProgress", footing=("the job waits for its turn",))
    assert sum(row.endswith("waits") for row in rows) == 3
    assert rows[-1] == "the job waits for its turn"


def test_too_many_warnings_are_counted() -> None:
    more = [told("log", 200 + index, level="warning", message=f"trouble {index}: {ADVICE}") for index in range(5)]
    rows = drawn([*whole(), *more], 80, 40)
    text = "\n".join(rows)
    assert "! trouble 4" in text
    assert "trouble 0" not in text
    (counted,) = [row for row in rows if "earlier warnings" in row]
    shown = text.count("! trouble")
    assert counted.startswith(f"! and {7 - shown} earlier")


def test_the_end_tells_what_is_billed() -> None:
    done = told(
        "done", 400, training_loss=0.25, validation_losses=[0.5], tokens=270_000, examples=4800,
        examples_per_second=12.3456,
    )  # fmt: skip
    text = "\n".join(drawn([*whole(), told("part", 399, part="training", status="Completed"), done], 80, 24))
    assert "training loss 0.2500 · validation loss 0.5000" in text
    assert "4,800 examples · 270,000 tokens trained · 12.35 examples/s" in text
    assert " left" not in text
    assert "6:34" in text


def test_a_step_that_is_done_again_stands_once() -> None:
    story = Story()
    for event in [*whole(), *[step(number) for number in range(140, 151)]]:
        story.add(event)
    assert list(story.losses) == list(range(151))


@pytest.mark.parametrize("width", [20, 80, 300])
@pytest.mark.parametrize("height", [1, 2, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_a_curve_keeps_its_box_and_its_extremes(width: int, height: int, count: int) -> None:
    rows = spark({place: 5.0 - 4.0 * place / count for place in range(count)}, {count - 1: 0.5}, width, height)
    assert len(rows) == height
    assert max(map(len, rows)) <= width
    assert "".join(rows).count(MARK) == 1
    assert rows[0].strip().startswith(("4.", "5"))
    assert height == 1 or "0.5" in rows[-1]


@pytest.mark.parametrize(("low", "high"), [(6.173e-06, 1.489), (1.763e-05, 0.9748), (2.5, 12_345_678.0)])
def test_a_curve_stands_straight_beside_any_scale(low: float, high: float) -> None:
    rows = spark({0: high, 1: (low + high) / 2, 2: low}, {}, 60, 4)
    assert {row.index("│") for row in rows} == {rows[0].index("│")}


def test_a_curve_falls_from_the_top_left_to_the_bottom_right() -> None:
    rows = spark({place: float(8 - place) for place in range(8)}, {}, 40, 1)
    assert rows[-1].endswith("█▇▆▅▄▃▂▁")
    flat = spark(dict.fromkeys(range(4), 2.0), {}, 40, 1)
    assert flat[0].endswith("│▄▄▄▄")


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0:00"), (7.4, "0:07"), (750, "12:30"), (3600, "1:00:00"), (11_100, "3:05:00")]
)
def test_a_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_every_event_has_its_line() -> None:
    plan = {"steps": 300}
    lines = [line(event, plan) for event in whole()]
    assert lines[0] == "validation: InProgress"
    assert lines[3] == "plan: 1,600 examples · 270,000 tokens · 300 steps"
    assert lines[6] == "machine: cpu, 310 GFLOP/s"
    assert lines[7] == (
        "step 1 of 300 · loss 3.0000 (smoothed 4.0000) · learning rate 0.0042 · gradient norm 0.75 · 1,800 tokens/s · "
        "16 examples/s · 61% of the matrix rate · 0:50 to 1:15 left"
    )
    assert "validation set 1 after step 100: 0.0500" in lines
    assert "checkpoint after step 150" in lines
    assert f"warning: {ADVICE}" in lines
    assert line(told("usage", 1, peak_bytes=5), {}) == "usage: peak_bytes 5"
    assert line(told("failed", 1, message="no"), {}) == "failed: no"
    assert line(told("stopped", 1, step=3, tokens=9), {}) == "stopped after 3 steps"
