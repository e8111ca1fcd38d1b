"""What a job leaves in storage: where it lies, what the files say, and a courier that outlasts storage's absence."""

import csv
import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outcrop.errors import OutcropError
from outcrop.objects.destination import Destination
from outcrop.train.deliver import PACE, PERIOD, Courier, Curves, export, manifest, patiently
from outcrop.train.events import Events


class Away(OutcropError):
    """Storage does not answer."""


class Refused(OutcropError):
    """Storage says no."""


class Memory:
    """A store that can be away or refuse."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Exception | None = None
        self.tries = 0
        self.arrived = threading.Event()

    def put(self, uri: str, content: bytes) -> None:
        self.tries += 1
        if self.fault is not None:
            raise self.fault
        self.objects[uri] = content
        self.arrived.set()

    def upload(self, path: Path, uri: str) -> None:
        self.put(uri, path.read_bytes())


PLACE = Destination("s3://bucket/out", "abcdefghijkl")
TRAINING = PLACE.file("training_artifacts/step_wise_training_metrics.csv")


def step(number: int, loss: float = 1.5) -> dict[str, object]:
    return {"kind": "step", "step": number, "epoch": number // 4, "loss": loss, "perplexity": 4.5}


def nothing() -> None:
    """No pulse."""


@pytest.mark.parametrize(
    ("output", "prefix"),
    [("s3://b", "s3://b/"), ("s3://b/", "s3://b/"), ("s3://b/a", "s3://b/a/"), ("s3://b/a/", "s3://b/a/")],
)
def test_one_rule_for_slashes(output: str, prefix: str) -> None:
    place = Destination(output, "abc")
    assert place.probe == prefix + ".write_access_check_file.temp"
    assert place.file("x/y.csv") == prefix + "model-customization-job-abc/x/y.csv"


def test_rows_come_in_order_and_a_repeated_step_counts_once() -> None:
    curves = Curves()
    assert curves.files() == {}
    for event in (step(0), step(1), step(2), {"kind": "checkpoint", "step": 2}, step(1, 0.1 + 0.2)):
        curves.feed(event)
    files = curves.files()
    assert list(files) == ["training_artifacts/step_wise_training_metrics.csv"]
    assert files["training_artifacts/step_wise_training_metrics.csv"].decode() == (
        "step_number,epoch_number,training_loss,perplexity\n0,0,1.5,4.5\n1,0,0.30000000000000004,4.5\n2,0,1.5,4.5\n"
    )
    for validator in (1, 0):
        curves.feed({"kind": "eval", "step": 2, "epoch": 0, "validator": validator, "loss": validator, "perplexity": 1})
    assert curves.files()["validation_artifacts/validation_metrics.csv"].decode().splitlines() == [
        "step_number,epoch_number,validation_loss,perplexity",
        "2,0,0.0,1.0",
        "2,0,1.0,1.0",
    ]


def test_what_a_step_tells_beyond_aws_s_columns_stands_in_a_file_of_its_own() -> None:
    curves = Curves()
    curves.feed(step(0) | {"smoothed_loss": 1.25, "learning_rate": 0.001, "examples": 8})
    curves.feed(step(1) | {"smoothed_loss": 1.0, "utilisation": 0.5, "seconds_left": [3.0, 4.5]})
    files = curves.files()
    assert list(files) == ["training_artifacts/step_wise_training_metrics.csv", "run_details/steps.csv"]
    first, second = csv.DictReader(io.StringIO(files["run_details/steps.csv"].decode()))
    assert (first["step_number"], first["training_loss"], first["smoothed_loss"]) == ("0", "1.5", "1.25")
    assert (first["learning_rate"], first["examples"], first["utilisation"]) == ("0.001", "8", "")
    assert (second["utilisation"], second["seconds_left_low"], second["seconds_left_high"]) == ("0.5", "3.0", "4.5")


def test_the_courier_carries_while_training_runs_and_only_what_is_new() -> None:
    store, curves = Memory(), Curves()
    courier = Courier(store, PLACE, curves, lambda sentence: None, away=Away, period=0.01)
    curves.feed(step(0))
    courier.start()
    assert store.arrived.wait(60)
    time.sleep(0.1)
    assert store.tries == 1
    curves.feed(step(1))
    courier.finish(nothing)
    assert store.objects[TRAINING].endswith(b"\n1,0,1.5,4.5\n")


def under_way(fault: Exception) -> tuple[Memory, Courier, list[str]]:
    """A courier that has failed to carry five times, its storage, and what it said."""
    store, curves, said = Memory(), Curves(), list[str]()
    store.fault = fault
    courier = Courier(store, PLACE, curves, said.append, away=Away, period=0.01)
    curves.feed(step(0))
    courier.start()
    while store.tries < 5:
        time.sleep(0.005)
    return store, courier, said


def test_the_courier_waits_for_storage_and_says_so_once() -> None:
    store, courier, said = under_way(Away("nobody there"))
    assert said == ["the metric files could not be written, which will be tried again: nobody there"]
    pulses = 0

    def pulse() -> None:
        nonlocal pulses
        pulses += 1
        if pulses == 3:
            store.fault = None

    courier.finish(pulse)
    assert TRAINING in store.objects
    assert pulses >= 3


def test_a_fault_that_nobody_foresaw_is_told_and_ends_no_carrying(capsys: pytest.CaptureFixture[str]) -> None:
    store, courier, said = under_way(KeyError("what"))
    store.fault = None
    assert store.arrived.wait(60), "it goes on by itself"
    courier.finish(nothing)
    assert said == ["the metric files could not be written, which will be tried again: KeyError: 'what'"]
    assert "KeyError" in capsys.readouterr().err
    assert TRAINING in store.objects


def test_long_files_are_carried_more_seldom() -> None:
    store, curves = Memory(), Curves()
    courier = Courier(store, PLACE, curves, lambda sentence: None, away=Away)
    curves.feed(step(0))
    courier.finish(nothing)
    assert courier.pause == PERIOD
    for number in range(50_000):
        curves.feed(step(number))
    courier.finish(nothing)
    size = sum(len(content) for content in store.objects.values())
    assert courier.pause == size / PACE > PERIOD


def test_a_refusal_ends_the_wait() -> None:
    store, curves = Memory(), Curves()
    curves.feed(step(0))
    store.fault = Refused("no rights")
    courier = Courier(store, PLACE, curves, lambda sentence: None, away=Away)
    with pytest.raises(Refused):
        courier.finish(nothing)


def test_waiting_is_ended_by_the_pulse() -> None:
    def fail() -> None:
        raise Away("nobody there")

    def pulse() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        patiently(fail, Away, pulse, lambda sentence: None)


def test_every_file_of_the_weights_is_exported(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.json").write_bytes(b"a")
    (tmp_path / "sub" / "b.bin").write_bytes(b"b")
    store = Memory()
    export(store, PLACE, tmp_path, nothing)
    assert store.objects == {PLACE.file("model/a.json"): b"a", PLACE.file("model/sub/b.bin"): b"b"}


def test_the_manifest_quotes_what_a_csv_must() -> None:
    assert manifest([("a,b.jsonl", 3, 1)]).decode().splitlines()[1] == '"a,b.jsonl",3,1,0,2'


@pytest.fixture
def diary(tmp_path: Path) -> Callable[[], Events]:
    return lambda: Events(tmp_path / "events.jsonl", now=lambda: datetime(2026, 11, 22, 1, 2, 3, 4567, tzinfo=UTC))


def test_events_are_lines_of_json_with_their_instant(diary: Callable[[], Events], tmp_path: Path) -> None:
    with closing(diary()) as events:
        events.part("validation", "InProgress")
        events.part("validation", "InProgress")
        with pytest.raises(ValueError, match="JSON compliant"):
            events.emit("step", loss=float("nan"))
        events.emit("done", {"training_loss": 0.5}, tokens=3)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"at": "2026-11-22T01:02:03.004Z", "kind": "part", "part": "validation", "status": "InProgress"},
        {"at": "2026-11-22T01:02:03.004Z", "kind": "done", "training_loss": 0.5, "tokens": 3},
    ]


def test_a_later_life_knows_what_was_said_and_drops_a_torn_line(diary: Callable[[], Events], tmp_path: Path) -> None:
    with closing(diary()) as first:
        first.part("validation", "InProgress")
        first.part("validation", "Completed")
        first.part("dataProcessing", "InProgress")
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at": "2026')
    with closing(diary()) as second:
        assert path.read_bytes() == whole
        assert second.completed("validation")
        assert not second.completed("dataProcessing")
        assert not second.over
        second.close_open_part("Failed")
        second.emit("failed", message="返")
    assert json.loads(path.read_bytes().splitlines()[-2])["status"] == "Failed"
    with closing(diary()) as third:
        assert third.over
