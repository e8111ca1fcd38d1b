"""Which engines start and which give way within one budget of memory, as a table: no process, store or clock."""

from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.serve.moves import Evict, Fail, Load, Move, Refuse, Start, Stop, moves
from outcrop.serve.wants import Engine, Place, Seat, Want

A, B, C = Place(Path("/a")), Place(Path("/b")), Place(Path("/c"))
NEEDS = {A: 40, B: 40, C: 40}
BUDGET = 100


def throughput(place: Place, status: str = "InService") -> Want:
    return Want(f"pt{place}", status, (Seat(place),), provisioned=True)  # type: ignore[arg-type]


def asked(place: Place, at: float, *, waited: bool = False) -> Want:
    return Want(f"od{place}", "OnDemand", (Seat(place),), last_asked=at, waited=waited)


def deploying(place: Place) -> Want:
    return Want(f"dep{place}", "Creating", (Seat(place),))


def up(place: Place, held: int = 40) -> Engine:
    return Engine(place, "serving", bytes=held)


@pytest.mark.parametrize(
    ("wants", "engines", "expected"),
    [
        # There is room.
        ([asked(A, 1.0), asked(B, 2.0)], [], [Start(A), Start(B)]),
        ([asked(A, 1.0), asked(C, 3.0)], [up(A), Engine(B, "down")], [Start(C), Stop(B)]),
        # There is none: the least recently asked gives way to a call that waits, and the other one stays.
        ([asked(A, 1.0), asked(B, 2.0), asked(C, 3.0, waited=True)], [up(A), up(B)], [Evict(A)]),
        ([asked(A, 2.0), asked(B, 1.0), asked(C, 3.0, waited=True)], [up(A), up(B)], [Evict(B)]),
        # What nobody wants gives way first, and is ended once.
        ([asked(A, 1.0), asked(C, 3.0, waited=True)], [up(A), up(B)], [Evict(B)]),
        # What grew beyond its weights counts as it is.
        ([asked(A, 1.0), asked(B, 2.0)], [up(A, 70)], []),
        ([asked(A, 1.0), asked(B, 2.0, waited=True)], [up(A, 70)], [Evict(A)]),
        # Nothing gives way for what nobody waits for, nor while somebody asks or waits for it.
        ([asked(A, 1.0), asked(B, 2.0), asked(C, 3.0)], [up(A), up(B)], []),
        (
            [asked(A, 1.0), asked(B, 2.0), asked(C, 3.0, waited=True)],
            [replace(up(A), leased=frozenset({None})), up(B)],
            [Evict(B)],
        ),
        ([asked(A, 1.0, waited=True), asked(B, 2.0), asked(C, 3.0, waited=True)], [up(A), up(B)], [Evict(B)]),
        (
            [asked(A, 1.0, waited=True), asked(B, 2.0, waited=True), asked(C, 3.0, waited=True)],
            [up(A), up(B)],
            [],
        ),
        # A throughput and a deployment that is being proven make room too; both may need more than one.
        ([throughput(C, "Creating"), asked(A, 2.0), asked(B, 1.0)], [up(A), up(B)], [Evict(B)]),
        ([deploying(C), asked(A, 2.0), asked(B, 1.0)], [up(A), up(B)], [Evict(B)]),
        ([throughput(C, "Creating"), asked(A, 2.0), asked(B, 1.0)], [up(A, 50), up(B, 49)], [Evict(B)]),
        ([throughput(C, "Creating"), asked(A, 2.0), asked(B, 1.0)], [up(A, 65), up(B, 30)], [Evict(B), Evict(A)]),
        # What is provisioned never gives way: the new one fails with the figures, callers are told the same.
        ([throughput(A), asked(B, 1.0), asked(C, 2.0, waited=True)], [up(A), up(B)], [Evict(B)]),
    ],
)
def test_room(wants: list[Want], engines: list[Engine], expected: list[Move]) -> None:
    assert moves(wants, {engine.place: engine for engine in engines}, 9.0, budget=BUDGET, needs=NEEDS) == expected


def test_what_never_fits_is_told_with_the_figures() -> None:
    gigabyte = 10**9
    promised = [throughput(A), throughput(B)]
    engines = {path: Engine(path, "serving", bytes=4 * gigabyte) for path in (A, B)}
    needs = dict.fromkeys((A, B, C), 4 * gigabyte)
    told = (
        "Too little memory: an engine over c takes at least 4.0 GB. All engines may take 10.0 GB, and 8.0 GB of it are "
        "held for provisioned models. What helps: deleting a provisioned model throughput; or smaller weights; or a "
        "larger setting engine_memory_gb"
    )
    for want, move in (
        (throughput(C, "Creating"), Fail("pt/c", told)),
        (deploying(C), Fail("dep/c", told)),
        (asked(C, 1.0, waited=True), Refuse("od/c", told)),
        (throughput(C), Refuse("pt/c", told)),
    ):
        assert moves([*promised, want], engines, 9.0, budget=10 * gigabyte, needs=needs) == [move]


def test_what_does_not_fit_even_alone_is_not_told_to_delete_others() -> None:
    [move] = moves([throughput(C, "Creating")], {}, 9.0, budget=10**9, needs={C: 4 * 10**9})
    assert isinstance(move, Fail)
    assert "0 MB of it are held" in move.reason
    assert move.reason.endswith("What helps: smaller weights; or a larger setting engine_memory_gb")


def test_of_two_throughputs_that_do_not_fit_together_the_first_is_served() -> None:
    wants = [throughput(A, "Creating"), throughput(B, "Creating")]
    first, second = moves(wants, {}, 9.0, budget=60, needs=NEEDS)
    assert first == Start(A)
    assert isinstance(second, Fail)
    assert second.target == "pt/b"


def test_two_that_share_an_engine_claim_it_once() -> None:
    wants = [throughput(A, "Creating"), replace(throughput(A, "Creating"), target="two")]
    assert moves(wants, {}, 9.0, budget=40, needs=NEEDS) == [Start(A)]
    red = Seat(A, "red", Path("/red"))
    wants = [asked(A, 1.0), replace(asked(A, 2.0, waited=True), seats=(red,))]
    assert moves(wants, {A: up(A)}, 9.0, budget=40, needs=NEEDS) == [Load(red)]


def test_without_a_bound_everything_starts() -> None:
    assert moves([asked(path, 1.0) for path in (A, B, C)], {}, 9.0, needs=NEEDS) == [Start(A), Start(B), Start(C)]
