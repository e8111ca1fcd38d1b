"""What records, names and messages hold never steers the terminal that shows them."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from outcrop.cli import commands
from outcrop.commands.watch import Look, _lines, _screen, _stream
from outcrop.jobs.events import Event
from outcrop.records import Job
from outcrop.terminal import harmless, harmless_json

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eabc"
"""Names the window, clears the screen, goes back to the line's start, turns red, and writes from right to left."""


def steers(text: str) -> list[str]:
    """What would steer a terminal, beside the ends of lines."""
    return [each for each in text if (not each.isprintable() and each != "\n")]


def looks() -> Any:
    """A job that failed with words of its data, and told and warned of them."""
    events = (
        Event(AT, "part", {"part": "validation", "status": "InProgress"}),
        Event(AT, "progress", {"part": "validation", "doing": "checks", "file": EVIL, "done": 1, "total": 2}),
        Event(AT, "log", {"level": "warning", "message": f"skipped {EVIL}"}),
        Event(AT, "surprise", {"text": EVIL, "deep": [EVIL]}),
        Event(AT, "failed", {"message": f"line 1: {EVIL}"}),
    )
    job = Job(
        arn="arn:aws:bedrock:us-east-1:123456789012:model-customization-job/x/abcdefghijkl",
        id="abcdefghijkl",
        name="evil",
        region="us-east-1",
        status="Failed",
        base_model_id="x",
        request={"customModelName": "evil"},
        created=AT,
        modified=AT,
        ended=AT,
        failure=f"line 1: {EVIL}",
    )
    return iter([Look(job, events, f"weights {EVIL}", served=True)])


@pytest.mark.parametrize("show", [_lines, _stream])
def test_lines_of_a_job(show: Callable[[Any], Job], capsys: pytest.CaptureFixture[str]) -> None:
    show(looks())
    out = capsys.readouterr().out
    assert out.count("owned") >= 4
    assert steers(out) == []


def test_json_lines_hold_what_the_data_hold(capsys: pytest.CaptureFixture[str]) -> None:
    _stream(looks())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[2]["message"] == f"skipped {EVIL}"
    assert told[-1]["failureMessage"] == f"line 1: {EVIL}"


def test_the_screen_of_a_job() -> None:
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=False, color_system=None)
    _screen(looks(), console)
    assert isinstance(console.file, io.StringIO)
    out = console.file.getvalue()
    assert out.count("owned") >= 3
    assert steers(out) == []


def test_a_dataset_s_report(tmp_path: Path) -> None:
    dataset = tmp_path / "evil.jsonl"
    lines = [{"prompt": EVIL, "completion": "b", EVIL: 1}, {"prompt": 1}]
    dataset.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    asked = ["check", str(dataset), "--model", "amazon.titan-text-express-v1"]
    for options in ([], ["--json"]):
        found = CliRunner().invoke(commands, [*asked, *options])
        assert found.exit_code == 1
        assert "owned" in found.output
        assert steers(found.output) == []


def test_texts_of_any_language_stay_as_they_are() -> None:
    text = "Grüße,\u00a0नमस्ते,\u3000日本 👩\u200d💻\nnext"
    assert harmless(text) == text
    assert harmless_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


def test_half_a_character_can_be_written() -> None:
    assert harmless("a\ud800b").encode() == "a·b".encode()
    assert json.loads(harmless_json(json.dumps("a\ud800b", ensure_ascii=False)).encode()) == "a\ud800b"
