"""The whole estimate of a job: its plan, its time, its room and its price, with the reason where one is not known.

Asked by `outcrop plan` and by the API's dry run, so the two cannot disagree. Knows the rooms of this one; nothing of
screens, S3 or requests.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.catalog.rows import Prices
from outcrop.datasets.plan import Plan
from outcrop.estimate.calibration import Calibration, NoCalibration, calibrate
from outcrop.estimate.calibration import document as measurements
from outcrop.estimate.duration import Duration, duration
from outcrop.estimate.foresight import Foresight, Unfit, foresee
from outcrop.estimate.price import Price, price
from outcrop.estimate.room import DiskNeed, MemoryNeed, disk, foreseen, measured, reckoned
from outcrop.estimate.survey import Survey
from outcrop.records import TrainSpec, rate_over
from outcrop.sources import memory
from outcrop.sources.fit import Fit
from outcrop.sources.memory import gigabytes

Progress = Callable[[str, float | None], None]
"""Told what is done now (tokenising, calibrating), and the share of it that is done where that is known."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What does not come from the data: where to work, how long to look, what things cost."""

    scratch: Path
    """An empty folder for shards and samples."""
    place: Path
    """A folder on the disk that the job would use."""
    environment: Mapping[str, str]
    """The calibration's."""
    prices: Prices
    kept: Path | None = None
    """Where calibrations are kept; None: nowhere."""
    budget: int = 64 << 20
    """Bytes of each file that are tokenised at most; of larger ones a sample is."""
    calibrated: bool = True
    """Whether steps are taken where none were kept."""
    patience: float = 600.0
    """Seconds that the steps may take."""
    machine_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will do and take; no member of it is a guess without saying so."""

    spec: TrainSpec
    plan: Foresight | Unfit
    calibration: Calibration | None
    unknown: str | None
    """Why there is no time; None where there is."""
    duration: Duration | None
    memory: MemoryNeed | None
    disk: DiskNeed | None
    price: Price

    @property
    def fits(self) -> bool:
        """Whether the job would find its examples short enough."""
        return isinstance(self.plan, Foresight)

    @property
    def failure(self) -> str | None:
        """What a job would fail for, though every line is good; None where nothing is known of that kind."""
        return self.plan.failure if isinstance(self.plan, Unfit) else None

    @property
    def learning_rate(self) -> float:
        """The highest that would run; where there will be no run, that of one whose length its weights suit."""
        if isinstance(self.plan, Unfit):
            return self.spec.learning_rate
        return rate_over(self.spec.learning_rate, self.spec.rate_steps, self.plan.steps)

    def document(self) -> dict[str, Any]:
        """As JSON's types: seconds, bytes, dollars."""
        spec = self.spec
        return {
            "weights": spec.base_name,
            "method": spec.method,
            "learning_rate": self.learning_rate,
            "plan": _plan(self.plan),
            "time": self.duration.document() if self.duration else None,
            "time_unknown": self.unknown,
            "calibration": measurements(self.calibration) if self.calibration else None,
            "memory": self.memory.document() if self.memory else None,
            "disk": self.disk.document() if self.disk else None,
            "price": self.price.document(),
        }


def estimate(
    spec: TrainSpec, checked: Survey, terms: Terms, progress: Progress = lambda _stage, _share: None
) -> Estimate:
    """Estimate a job over a dataset that passed its check.

    Raises OutcropError for weights that are no model or that cannot be trained on conversations.
    """
    progress("tokenising", None)
    started = time.perf_counter()
    found = foresee(spec, checked, terms.scratch, terms.budget, lambda share: progress("tokenising", share))
    if isinstance(found, Unfit):
        return Estimate(spec, found, None, "there will be no run", None, None, None, _price(spec, checked, terms, None))
    seen, plan = found
    tokenising = (time.perf_counter() - started) * seen.examples / max(1, seen.sampled_examples)
    # A driver does not say whether the job's torch can use it: the steps do.
    on_gpu = memory.GPU.exists()
    room = foreseen(spec, plan, on_gpu=on_gpu)
    calibration, unknown = _steps(spec, plan, room, terms, progress)
    span, need = None, reckoned(room)
    if calibration is not None:
        intake = checked.seconds + tokenising
        span = duration(seen, calibration, intake=intake, checkpoint_seconds=spec.checkpoint_seconds)
        used = calibration.device != "cpu"
        need = measured(spec, calibration, room if used == on_gpu else foreseen(spec, plan, on_gpu=used))
    return Estimate(
        spec=spec,
        plan=seen,
        calibration=calibration,
        unknown=unknown,
        duration=span,
        memory=need,
        disk=disk(spec, seen, [given.path for given in checked.inputs], terms.place),
        price=_price(spec, checked, terms, span),
    )


def _steps(
    spec: TrainSpec, plan: Plan, room: Fit, terms: Terms, progress: Progress
) -> tuple[Calibration | None, str | None]:
    """The calibration, or why there is none."""
    if not terms.calibrated:
        return None, "no training steps were asked for"
    need = reckoned(room)
    if need.fits is False:
        return None, f"a run needs about {gigabytes(need.needed)} of memory; {gigabytes(room.there.free)} are free"
    progress("calibrating", None)
    try:
        found = calibrate(
            spec,
            plan,
            terms.scratch,
            terms.kept,
            environment=terms.environment,
            patience=terms.patience,
            again=room.recomputes,
            pulse=lambda: progress("calibrating", None),
        )
    except NoCalibration as fault:
        return None, str(fault)
    return found, None


def _price(spec: TrainSpec, checked: Survey, terms: Terms, span: Duration | None) -> Price:
    return price(
        terms.prices,
        characters(checked),
        spec.limits.characters_per_token,
        spec.epochs,
        seconds=(span.low, span.high) if span else None,
        machine_hour=terms.machine_hour,
    )


def characters(checked: Survey) -> int:
    """Characters of the training file's texts: what AWS counts tokens from."""
    whole = checked.reports[0].whole
    return whole.total if whole else 0


def _plan(plan: Foresight | Unfit) -> dict[str, Any]:
    if isinstance(plan, Foresight):
        return {**plan.document(), "too_long": 0}
    faults: Sequence[dict[str, Any]] = [
        {"file": name, "line": fault.line, "reason": fault.reason} for name, fault in plan.faults
    ]
    return {"too_long": plan.count, "estimated": plan.estimated, "faults": list(faults)}
