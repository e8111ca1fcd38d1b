"""A shard is on the disk before it has its name, and one whose bytes are others is never trained on."""

import json
from pathlib import Path

import pytest

from outcrop.datasets.shards import Damaged, Shard, verify, write_shard
from outcrop.datasets.tokens import Encoder
from tests.power import PowerWatch

BUNDLED = Path(__file__).parents[2] / "outcrop" / "bases" / "text"


def made(folder: Path) -> Path:
    source = folder / "train.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"a {n}", "completion": " b"}) + "\n" for n in range(50)))
    assert write_shard(source, "prompt-completion", Encoder.read(BUNDLED), folder / "shard", print) == 0
    return folder / "shard"


def test_every_file_is_on_the_disk_before_the_shard_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = PowerWatch(monkeypatch)
    shard = made(tmp_path)
    assert {path.name for path in shard.iterdir()} >= {"tokens.npy", "scored.npy", "shard.json"}
    assert watch.unsafe(shard, "shard.draft") == set()


@pytest.mark.parametrize("name", ["tokens.npy", "scored.npy", "offsets.npy", "starts.npy", "sizes.npy", "shard.json"])
@pytest.mark.parametrize("harm", ["zeros", "short", "gone"])
def test_a_shard_that_lost_its_bytes_is_refused(tmp_path: Path, name: str, harm: str) -> None:
    path = made(tmp_path) / name
    content = path.read_bytes()
    if harm == "zeros":  # behind numpy's own header, which would tell
        path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    elif harm == "short":
        path.write_bytes(content[:-1] if name != "shard.json" else content[:-4])
    else:
        path.unlink()
    with pytest.raises(Damaged, match="damaged"):
        verify(path.parent)


def test_a_shard_of_before_checksums_is_read(tmp_path: Path) -> None:
    shard = made(tmp_path)
    notes = json.loads((shard / "shard.json").read_text())
    del notes["checksums"]
    (shard / "shard.json").write_text(json.dumps(notes))
    verify(shard)
    assert len(Shard.open(shard)) == 50
