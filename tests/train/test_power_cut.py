"""What a power cut takes of a job's tokens is made anew, and the run ends with the bits of one that lost nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from outcrop.train.intake import taken_in
from tests.power import PowerWatch
from tests.train.shelf import Shelf
from tests.train.test_kill import measured, weights
from tests.train.work import Start, small_job


def zeroed(path: Path) -> None:
    """As after a power cut: the name and the length are there, the bytes are not."""
    path.write_bytes(path.read_bytes()[:128] + bytes(path.stat().st_size - 128))


@pytest.mark.parametrize("lost", ["train/tokens.npy", "validation-0/scored.npy", "datasets.json"])
def test_damaged_tokens_are_made_anew(
    llama: Path,
    shelf: Shelf,
    start: Start,
    write_pairs: Callable[..., Path],
    lost: str,
) -> None:
    shelf.objects["bucket/train.jsonl"] = write_pairs(12).read_bytes()
    shelf.objects["bucket/validation.jsonl"] = write_pairs(4, start=40).read_bytes()
    spec = small_job(llama, epochs=2, checkpoint_seconds=1e-9, validation=("s3://bucket/validation.jsonl",))
    whole = start(spec, "whole")
    expected = measured(whole.live())
    torn = start(spec, "torn")
    torn.mortal("os.rename", "checkpoint/.draft", 3).wait(timeout=60)
    assert torn.steps()
    zeroed(torn.directory / "plan" / lost)
    events = torn.live()
    assert measured(events) == expected
    assert weights(torn) == weights(whole)
    (told,) = [event["message"] for event in events if "tokenised anew" in event.get("message", "")]
    assert Path(lost).parts[0] in told
    assert not [event for event in events if "cannot be taken up" in event.get("message", "")], "the checkpoint fits"
    assert not (torn.directory / "data").exists()


def test_what_is_known_of_the_files_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outcrop.train.intake import _keep

    (tmp_path / "plan").mkdir()
    watch = PowerWatch(monkeypatch)
    _keep(tmp_path / "plan", [])
    assert [what for what, _ in watch.seen] == ["sync", "rename", "sync"]
    assert taken_in(tmp_path) == []
