"""The first part of a job: its files fetched with the role's rights, checked to the last line, and tokenised.

Everything that is wrong with the data is found here, before torch is even imported, and told twice: AWS's sentence for
the first fault to the caller, the whole list beside the metrics. Knows S3 addresses, datasets and AWS's texts.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from outcrop.datasets.chat import TEMPLATED
from outcrop.datasets.check import check_file
from outcrop.datasets.formats import FORMATS, Fault
from outcrop.datasets.lengths import lengths_of
from outcrop.datasets.overlap import overlap
from outcrop.datasets.report import KEPT_FAULTS, Report, failure_message
from outcrop.datasets.shards import Damaged, Shard, verify, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.durable import replace_file
from outcrop.errors import OutcropError
from outcrop.objects.client import cannot_get, cannot_put
from outcrop.objects.destination import Destination
from outcrop.records import TrainSpec
from outcrop.train.deliver import manifest
from outcrop.train.progress import Progress

TOKENISED_FAULTY_BYTES: Final = 16 * 2**20
"""A file with faults is tokenised all the same up to this size, so that its examples that are too long for the weights
are told, too; a larger one fails at once, as tokenising takes a hundred times as long as checking."""

Passing = tuple[type[OutcropError], ...]
"""The client's errors that say nothing about the job: they go through as they are."""

Pulse = Callable[[], None]
"""Called now and then; raises StopAsked when the job is to stop."""


@dataclass(frozen=True, slots=True)
class Way:
    """What is done now and then while a file is read."""

    pulse: Pulse
    progress: Progress

    def move(self, count: int) -> None:
        """So much more is read."""
        self.pulse()
        self.progress.move(count)


class Source(Protocol):
    """The part of the object client that the intake needs."""

    def download(self, uri: str, path: Path, told: Callable[[int, int], None]) -> None:
        """Write an object's bytes to a file; tells of bytes that came, and of all."""
        ...

    def put(self, uri: str, content: bytes) -> None:
        """Write an object of these bytes."""
        ...

    def upload(self, path: Path, uri: str) -> None:
        """Write an object of a file's bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Dataset:
    """One input file of a job, and what is known of it once it was taken in."""

    uri: str
    shard: str
    """Folder name of its token shard under plan/."""
    purpose: str
    """train or validation."""
    sha256: str = ""
    records: int = 0

    @property
    def name(self) -> str:
        """What people are told of it by."""
        return self.uri.rsplit("/", 1)[-1]


def datasets_of(spec: TrainSpec) -> list[Dataset]:
    """The job's input files: the training file first, then the validators' in their order."""
    training = Dataset(uri=spec.training, shard="train", purpose="train")
    validation = [Dataset(uri, f"validation-{index}", "validation") for index, uri in enumerate(spec.validation)]
    return [training, *validation]


def take_in(
    spec: TrainSpec,
    directory: Path,
    source: Source,
    pulse: Pulse,
    tell: Callable[[str], None],
    *,
    passing: Passing,
    progress: Callable[..., None] = lambda **_: None,
) -> list[Dataset]:
    """Fetch, check and tokenise all input; leaves plan/<shard>/ and plan/datasets.json in the job directory.

    Raises OutcropError with AWS's text for missing rights or objects and for the first fault of the data; errors of
    the kinds `passing` come through as they are. The reports are in storage either way. `tell` gets what is odd about
    the data and yet no fault; `progress` how far the reading of a big file is.
    """
    if spec.format not in FORMATS:
        raise OutcropError(f"datasets of the form {spec.format!r} cannot be trained on here")
    destination = Destination(spec.output, spec.job_id)
    encoder = Encoder.read(Path(spec.base))
    if spec.format in TEMPLATED:
        encoder.chat.check(encoder)
    data, plan = directory / "data", directory / "plan"
    data.mkdir(exist_ok=True)
    plan.mkdir(exist_ok=True)
    given = datasets_of(spec)
    way = Way(pulse, Progress(progress))
    for dataset in given:
        pulse()
        _fetch(source, dataset, data / dataset.shard, passing, way.progress)
    _probe(source, destination, passing)
    with (data / "faults.jsonl").open("w", encoding="utf-8") as faults:
        reports = [_inspect(spec, dataset, directory, encoder, faults.write, way=way) for dataset in given]
        together = overlap(reports, spec.limits)
        for fault in together.faults:
            faults.write(_fault_line(spec.training, fault))
    document = {
        "files": [{"uri": dataset.uri, **report.document()} for dataset, report in zip(given, reports, strict=True)],
        "together": together.document(),
    }
    _report(source, destination, data, reports, document)
    for dataset, report in zip(given, reports, strict=True):
        if not report.passed:
            where = destination.file("input_data_report/faults.jsonl")
            raise OutcropError(f"{failure_message(report, dataset.uri, spec.limits)}. All faults: {where}")
        _remark(report, tell)
    for fault in together.faults:
        raise OutcropError(f"Input data breaks a quota: {fault.reason}")
    for leak in together.leaks:
        tell(f"{leak.name}: {leak}")
    taken = [
        replace(dataset, sha256=report.sha256, records=report.records)
        for dataset, report in zip(given, reports, strict=True)
    ]
    _keep(plan, taken)
    return taken


def taken_in(directory: Path) -> list[Dataset]:
    """What an earlier life of the job took in; raises Damaged where it is not as it was written."""
    notes = directory / "plan" / "datasets.json"
    try:
        found = [Dataset(**entry) for entry in json.loads(notes.read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise Damaged(f"{notes} is not what was written ({error})") from error
    for dataset in found:
        verify(directory / "plan" / dataset.shard)
    return found


def _fetch(source: Source, dataset: Dataset, path: Path, passing: Passing, progress: Progress) -> None:
    came = 0

    def told(count: int, total: int) -> None:
        nonlocal came
        if not came:  # how many there are is known with the first of them
            progress.begin("fetching", dataset.name, total, "bytes")
        came += count
        progress.move(count)

    try:
        source.download(dataset.uri, path, told)
    except passing:
        raise
    except OutcropError as error:
        raise cannot_get(dataset.uri, error) from error


def _probe(source: Source, destination: Destination, passing: Passing) -> None:
    try:
        source.put(destination.probe, b"")
    except passing:
        raise
    except OutcropError as error:
        raise cannot_put(destination.prefix, error) from error


def _inspect(
    spec: TrainSpec,
    dataset: Dataset,
    directory: Path,
    encoder: Encoder,
    write: Callable[[str], object],
    *,
    way: Way,
) -> Report:
    """Check one file, line by line and then in the model's own tokens."""
    path = directory / "data" / dataset.shard
    name = dataset.name
    way.progress.begin("checking", name, path.stat().st_size, "bytes")
    report = check_file(
        path,
        spec.format,
        spec.limits,
        dataset.purpose,
        lambda fault: write(_fault_line(dataset.uri, fault)),
        name=name,
        pulse=way.move,
    )
    if not report.passed and report.bytes > TOKENISED_FAULTY_BYTES:
        return report
    unfit: list[Fault] = []
    kinds = Counter(report.kinds)

    def note(fault: Fault) -> None:
        write(_fault_line(dataset.uri, fault))
        kinds[fault.kind] += 1
        if len(unfit) < KEPT_FAULTS:
            unfit.append(fault)

    folder = directory / "plan" / dataset.shard
    way.progress.begin("tokenising", name, report.accepted, "records")
    count = write_shard(
        path, spec.format, encoder, folder, note, limits=spec.limits, longest=spec.max_sequence_length, pulse=way.move
    )
    if count:
        faults = tuple(sorted((*report.faults, *unfit), key=lambda fault: (fault.line == 0, fault.line)))[:KEPT_FAULTS]
        accepted, counted = report.accepted - count, report.fault_count + count
        return replace(report, accepted=accepted, fault_count=counted, faults=faults, kinds=dict(kinds))
    if not report.passed:
        return report
    shard = Shard.open(folder)
    if shard.records != report.records:
        raise OutcropError(f"{name} changed while it was read")
    return replace(report, tokens=lengths_of(shard.sizes))


def _report(
    source: Source, destination: Destination, data: Path, reports: Sequence[Report], document: dict[str, Any]
) -> None:
    """Leave the reports beside the metrics, in both places where clients were seen to look (facts 4.1)."""
    table = manifest([(report.name, report.records, report.accepted) for report in reports])
    source.put(destination.file("input_status/manifest.report.csv"), table)
    source.put(destination.file("input_data_report/manifest.report.csv"), table)
    source.put(
        destination.file("input_data_report/report.json"),
        (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode("utf-8"),
    )
    source.upload(data / "faults.jsonl", destination.file("input_data_report/faults.jsonl"))


def _remark(report: Report, tell: Callable[[str], None]) -> None:
    for remark in report.remarks:
        tell(f"{report.name}: {remark}")


def _keep(plan: Path, taken: Sequence[Dataset]) -> None:
    replace_file(plan / "datasets.json", json.dumps([asdict(dataset) for dataset in taken], indent=2) + "\n")


def _fault_line(uri: str, fault: Fault) -> str:
    return json.dumps({"file": uri, **asdict(fault)}, ensure_ascii=False) + "\n"
