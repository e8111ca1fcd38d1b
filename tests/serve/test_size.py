"""How much engines take: looked up again when weights change, and never remembered as nothing."""

import json
import os
from pathlib import Path

from outcrop.serve.size import Sizes
from tests.serve.fleet_world import World
from tests.store.resources import LONG_ID


def size(folder: Path) -> int:
    """As large as its config says."""
    try:
        return int(json.loads((folder / "config.json").read_text())["bytes"])
    except OSError:
        return 0


def write(folder: Path, number: int) -> None:
    """As a person replaces weights: whole, by a rename."""
    draft = folder / "config.new"
    draft.write_text(json.dumps({"bytes": number}))
    draft.rename(folder / "config.json")


def test_a_folder_that_was_not_there_is_looked_at_again(tmp_path: Path) -> None:
    folder, sizes = tmp_path / "weights", Sizes(size)
    assert sizes(folder) == 0
    folder.mkdir()
    assert sizes(folder) == 0
    write(folder, 7)
    assert sizes(folder) == 7


def test_a_fault_that_leaves_no_trace_is_looked_at_again(tmp_path: Path) -> None:
    write(tmp_path, 7)
    answers = iter([0, 7])
    sizes = Sizes(lambda _: next(answers))
    assert [sizes(tmp_path), sizes(tmp_path), sizes(tmp_path)] == [0, 7, 7]


def test_other_weights_in_the_same_folder_have_their_own_size(tmp_path: Path) -> None:
    looked: list[Path] = []

    def counted(folder: Path) -> int:
        looked.append(folder)
        return size(folder)

    sizes = Sizes(counted)
    write(tmp_path, 7)
    assert [sizes(tmp_path), sizes(tmp_path)] == [7, 7]
    assert len(looked) == 1
    before = (tmp_path / "config.json").stat()
    write(tmp_path, 9)
    # As `cp -p` and `rsync -t` leave it: the time of its content is the old one's.
    os.utime(tmp_path / "config.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sizes(tmp_path) == 9


def test_an_engine_that_starts_again_is_as_large_as_its_weights_are_now(tmp_path: Path) -> None:
    world = World(tmp_path, memory=100, size=size)
    try:
        (world.base / "config.json").write_text(json.dumps({"bytes": 7}))
        world.fleet._start_engine(world.place)
        running = world.fleet._engines[world.place]
        assert running.need == 7
        running.end()
        write(world.base, 9)
        world.fleet._start_engine(world.place)
        assert running.need == 9
    finally:
        world.close()


def test_what_nobody_can_size_is_started_all_the_same(tmp_path: Path) -> None:
    # The engine itself says what is wrong with it, if anything is.
    world = World(tmp_path, memory=100, size=size)
    world.fleet.start()
    try:
        (world.base / "config.json").write_text(json.dumps({"bytes": 0}))
        assert world.ask(LONG_ID) == "hello"
    finally:
        world.close()
