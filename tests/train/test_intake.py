"""The intake by itself, over a store in a dictionary: what it keeps, tells, refuses and lets through."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.children import read_spec
from outcrop.datasets.chat import ChatTemplate
from outcrop.datasets.shards import Shard
from outcrop.errors import OutcropError
from outcrop.records import Limits, TrainSpec
from outcrop.train import progress
from outcrop.train.events import StopAsked
from outcrop.train.intake import take_in, taken_in
from outcrop.train.start import open_plan, require_disk, work_key


class Away(OutcropError):
    """Storage does not answer."""


class Memory:
    """Objects by URI."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: OutcropError | None = None

    def download(self, uri: str, path: Path, told: Callable[[int, int], None]) -> None:
        if self.fault is not None:
            raise self.fault
        content = self.objects[uri]
        half = len(content) // 2
        told(half, len(content))
        told(len(content) - half, len(content))
        path.write_bytes(content)

    def put(self, uri: str, content: bytes) -> None:
        self.objects[uri] = content

    def upload(self, path: Path, uri: str) -> None:
        self.put(uri, path.read_bytes())


@pytest.fixture
def store(write_pairs: Callable[..., Path]) -> Memory:
    found = Memory()
    found.objects["s3://b/train.jsonl"] = write_pairs(6).read_bytes()
    found.objects["s3://b/v.jsonl"] = write_pairs(2, start=20).read_bytes()
    return found


@pytest.fixture
def spec(llama: Path) -> TrainSpec:
    return TrainSpec(
        job_arn="arn:aws:bedrock:us-east-1:123456789012:model-customization-job/m.v1/abcdefghijkl",
        job_id="abcdefghijkl",
        base_model_id="m.v1",
        base=str(llama),
        base_name="small",
        training="s3://b/train.jsonl",
        output="s3://b/out",
        validation=("s3://b/v.jsonl",),
        batch_size=4,
    )


def take(spec: TrainSpec, directory: Path, store: Memory, tell: Callable[[str], None] = lambda _: None) -> None:
    take_in(spec, directory, store, lambda: None, tell, passing=(Away,))


def test_how_far_each_file_is_is_told(
    spec: TrainSpec, tmp_path: Path, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    told: list[tuple[str, str, int, int]] = []

    def emit(**members: Any) -> None:
        told.append((members["doing"], members["file"], members["done"], members["total"]))

    take_in(spec, tmp_path, store, lambda: None, lambda _: None, passing=(Away,), progress=emit)
    sizes = {name: len(store.objects[f"s3://b/{name}"]) for name in ("train.jsonl", "v.jsonl")}
    fetched = [("fetching", name, done, size) for name, size in sizes.items() for done in (size // 2, size)]
    assert told == [
        *fetched,
        ("checking", "train.jsonl", sizes["train.jsonl"], sizes["train.jsonl"]),
        ("tokenising", "train.jsonl", 6, 6),
        ("checking", "v.jsonl", sizes["v.jsonl"], sizes["v.jsonl"]),
        ("tokenising", "v.jsonl", 2, 2),
    ]


def test_what_was_taken_in_is_known_to_a_later_life(spec: TrainSpec, tmp_path: Path, store: Memory) -> None:
    take(spec, tmp_path, store)
    training, validation = taken_in(tmp_path)
    assert (training.records, validation.records) == (6, 2)
    assert (training.shard, validation.shard) == ("train", "validation-0")
    plan = open_plan(spec, tmp_path / "plan")
    assert (len(plan.train), len(plan.validation[0]), plan.steps) == (6, 2, 2)
    (tmp_path / "spec.json").write_text("{}")
    before = work_key(tmp_path)
    (tmp_path / "spec.json").write_text("{ }")
    assert work_key(tmp_path) != before


def test_the_quota_on_all_records_is_told_and_listed(spec: TrainSpec, tmp_path: Path, store: Memory) -> None:
    with pytest.raises(OutcropError, match="hold 8 records together; at most 7 are allowed"):
        take(replace(spec, limits=Limits(max_sum_records=7)), tmp_path, store)
    listed = store.objects["s3://b/out/model-customization-job-abcdefghijkl/input_data_report/faults.jsonl"]
    assert [json.loads(line)["kind"] for line in listed.splitlines()] == ["file"]
    assert not (tmp_path / "plan" / "datasets.json").exists()


def test_validation_records_that_are_trained_on_are_told_and_reported(
    spec: TrainSpec, tmp_path: Path, store: Memory
) -> None:
    known = store.objects["s3://b/train.jsonl"].splitlines(keepends=True)[3]
    store.objects["s3://b/v.jsonl"] += known
    told: list[str] = []
    take(spec, tmp_path, store, told.append)
    assert len(told) == 1
    assert told[0].startswith("v.jsonl: 1 record stands in the training file, too, and cannot test what was learnt ")
    assert told[0].endswith("(line 3 is the training file's line 4)")
    folder = "s3://b/out/model-customization-job-abcdefghijkl/input_data_report/"
    report = json.loads(store.objects[folder + "report.json"])
    assert report["together"]["leaks"] == [{"name": "v.jsonl", "records": 1, "first": [{"line": 3, "of": 4}]}]
    training = report["files"][0]
    assert sum(bar["count"] for bar in training["whole"]["histogram"]) == training["records"] == 6
    assert sum(bar["count"] for bar in training["tokens"]["histogram"]) == 6


def test_oddities_are_told_and_trained_on(spec: TrainSpec, tmp_path: Path, store: Memory) -> None:
    twice = json.dumps({"prompt": "a", "completion": "b"})
    other = json.dumps({"prompt": "a", "completion": "c"})
    store.objects["s3://b/train.jsonl"] = "\n".join([twice, twice, other]).encode()
    told: list[str] = []
    take(spec, tmp_path, store, told.append)
    assert told == [
        "train.jsonl: 1 record repeats an earlier one exactly (line 2 is line 1)",
        "train.jsonl: 1 record repeats an earlier one with another answer",
    ]
    assert len(Shard.open(tmp_path / "plan" / "train")) == 3


def test_what_is_no_fault_of_the_job_comes_through_as_it_is(spec: TrainSpec, tmp_path: Path, store: Memory) -> None:
    store.fault = Away("nobody there")
    with pytest.raises(Away):
        take(spec, tmp_path, store)
    store.fault = OutcropError("no")
    with pytest.raises(OutcropError, match=r"^Could not validate GetObject permissions .* key train\.jsonl \(no\)$"):
        take(spec, tmp_path, store)


def test_a_stop_ends_the_intake(spec: TrainSpec, tmp_path: Path, store: Memory) -> None:
    def pulse() -> None:
        raise StopAsked

    with pytest.raises(StopAsked):
        take_in(spec, tmp_path, store, pulse, lambda _: None, passing=(Away,))


def test_what_only_the_weights_refuse_is_counted_with_the_rest(
    spec: TrainSpec, tmp_path: Path, store: Memory, llama: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    template = ChatTemplate.read(llama).source.replace("{% for", "{% if 'x' == messages[0].content %}"
    "{{ raise_exception('no x here') }}{% endif %}{% for", 1)  # fmt: skip
    (base / "chat_template.jinja").write_text(template)

    def talk(*texts: str) -> str:
        turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
        return json.dumps({"messages": turns})

    lines = [talk("a", "b"), talk("x", "b"), talk("a"), talk("a" * 60, "b"), talk("x", "c")]
    store.objects["s3://b/train.jsonl"] = "\n".join(lines).encode()
    job = replace(spec, base=str(base), format="messages", validation=())
    with pytest.raises(
        OutcropError, match=r"train\.jsonl cannot be written as the model reads it: .*no x here .*line 2"
    ) as told:
        take(job, tmp_path, store)
    assert "faults in this file: 4)" in str(told.value)
    folder = "s3://b/out/model-customization-job-abcdefghijkl/input_data_report/"
    [report] = json.loads(store.objects[folder + "report.json"])["files"]
    assert report["kinds"] == {"shape": 1, "template": 2, "context": 1}
    assert (report["accepted"], report["fault_count"]) == (1, 4)
    assert [json.loads(line)["line"] for line in store.objects[folder + "faults.jsonl"].splitlines()] == [3, 2, 4, 5]


def test_a_large_file_with_faults_fails_before_it_is_tokenised(
    spec: TrainSpec, tmp_path: Path, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outcrop.train.intake.TOKENISED_FAULTY_BYTES", 100)
    long = json.dumps({"prompt": "a" * 4000, "completion": "b"})
    store.objects["s3://b/train.jsonl"] = f'{long}\n{{"prompt": "a"}}\n'.encode()
    with pytest.raises(OutcropError, match=r"line 2, column 1: .* faults in this file: 1\)"):
        take(replace(spec, validation=()), tmp_path, store)
    assert not (tmp_path / "plan" / "train").exists()


def test_a_form_that_is_not_carried_out_is_refused(spec: TrainSpec, tmp_path: Path, store: Memory) -> None:
    with pytest.raises(OutcropError, match="'pictures' cannot be trained on here"):
        take(replace(spec, format="pictures"), tmp_path, store)


def test_a_disk_too_small_for_the_checkpoints_is_refused(tmp_path: Path) -> None:
    require_disk(tmp_path, 1000, 1000)
    with pytest.raises(OutcropError, match="the checkpoints and the finished weights need"):
        require_disk(tmp_path, 10**15, 0)
    with pytest.raises(OutcropError, match="the checkpoints and the finished weights need"):
        require_disk(tmp_path, 0, 10**15)


def test_a_spec_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    for content in ("", "{}", '{"job_arn": 3}'):
        path.write_text(content)
        with pytest.raises(OutcropError, match="cannot read the job's"):
            read_spec(path)
