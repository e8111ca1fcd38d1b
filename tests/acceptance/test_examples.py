"""The example scripts as a customer runs them, and the README's script, which is one of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(server: Server, script: str, *arguments: str) -> list[str]:
    """What a script prints, line by line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{script}.py"), *arguments],
        env={**kept, **server.environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_job(server: Server) -> None:
    status, *answer = run(server, "first_job")
    assert status.startswith("Completed {'trainingLoss': ")
    assert "".join(answer).strip()


def test_continued_pretraining_lowers_the_perplexity_on_text_it_never_saw(server: Server) -> None:
    status, curve, *answer = run(server, "continued_pretraining")
    assert status.startswith("Completed {'trainingLoss': ")
    values = [float(value) for value in curve.partition(": ")[2].split(" → ")]
    assert len(values) == 4
    assert values[-1] < values[0]
    assert "".join(answer).strip()


@pytest.mark.parametrize("script", ["messages", "multi_turn_messages", "conversation"])
def test_an_answer_in_turns_is_learnt_to_its_end(server: Server, script: str) -> None:
    status, *answers = run(server, script)
    assert status.startswith("Completed {'trainingLoss': ")
    # What was trained is said, and then nothing more: the end of a turn was learnt.
    assert answers[0].startswith("Order 4711 is on its way."), answers


def test_a_chain_keeps_what_its_earlier_links_learnt(server: Server) -> None:
    first, second, third, *answers = run(server, "chain")
    for line, name in ((first, "chain-1"), (second, "chain-2"), (third, "chain-3")):
        assert line.startswith(f"{name} Completed {{'trainingLoss': ")
    assert answers[0].strip() == "Thank you, send 4711 in its blue crate."
    assert answers[1].strip()


def test_one_engine_answers_for_many_custom_models_of_its_base(server: Server) -> None:
    lines = run(server, "many_adapters", "2")
    assert lines[0] == "2 models to teach; 0 are deployed already"
    assert [re.sub(r"^ *\d+ s  | loss 0\.\d{3}$", "", line) for line in lines[1:3]] == [
        "crate-red Completed",
        "crate-blue Completed",
    ]
    assert [line.partition(", ")[0] for line in lines[3:5]] == ["2 models asked at the same time"] * 2
    assert [line.split(None, 1)[1] for line in lines[5:7]] == ["In the red crate.", "In the blue crate."]
    # The tests beside this one may have models of their own upon that engine, and engines over other weights.
    [told] = [line for line in lines[7:] if "/bases/text has " in line]
    assert int(told.split()[-3]) >= 2


def test_the_readme_quotes_the_first_job() -> None:
    script = (EXAMPLES / "first_job.py").read_text("utf-8")
    _, code = script.split("\n\n", 1)
    assert f"```python\n{code}```" in (EXAMPLES.parent / "README.md").read_text("utf-8")


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text("utf-8")
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - {"make_dataset"}  # the demo runs that one
    assert all(f'"{script}"' in here for script in scripts), scripts
