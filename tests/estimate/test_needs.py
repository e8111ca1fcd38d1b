"""The disk that is foretold is the disk that the job then demands."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.errors import OutcropError
from outcrop.estimate.estimate import estimate
from outcrop.estimate.room import DiskNeed, trained
from outcrop.records import TrainSpec
from outcrop.sources.look import look
from outcrop.train.start import require_disk
from tests.estimate.world import BASE, checked, spec_of, terms, write_pairs


def foretold(spec: TrainSpec, folder: Path) -> DiskNeed:
    found = estimate(spec, checked(spec), terms(folder, calibrated=False)).disk
    assert isinstance(found, DiskNeed)
    return found


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("patience", [None, 2])
def test_the_job_demands_what_was_foretold(
    tmp_path: Path, method: str, patience: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(write_pairs(tmp_path / "train.jsonl", 9), method=method, early_stopping_patience=patience)
    disk = foretold(spec, tmp_path)
    numbers = trained(spec, look(BASE, "base"))
    for free, enough in ((disk.checkpoints + disk.result, True), (disk.checkpoints + disk.result - 1, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda _folder, free=free: type("Usage", (), {"free": free}))

        def demand() -> None:
            require_disk(tmp_path, numbers, disk.result, early_stopping=patience is not None)

        if enough:
            demand()
        else:
            with pytest.raises(OutcropError, match="the checkpoints and the finished weights need"):
                demand()


def test_a_chain_s_result_has_its_parent_s_rank_too(tmp_path: Path) -> None:
    spec: Any = spec_of(write_pairs(tmp_path / "train.jsonl", 9), lora_rank=2)
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "adapter_config.json").write_text(json.dumps({"r": 6}))
    chained = replace(spec, parent=str(tmp_path / "parent"), parent_arn="arn:aws:bedrock:us-east-1::custom-model/x")
    alone, chain = foretold(spec, tmp_path), foretold(chained, tmp_path)
    assert (chain.checkpoints, chain.result) == (alone.checkpoints, 4 * alone.result)
