"""What the fleet does next, as a table: no process, store or clock."""

from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.serve.moves import Fail, Load, Move, Serve, Start, Stop, Unload, moves
from outcrop.serve.wants import Engine, Place, Seat, Want

A, B = Place(Path("/a")), Place(Path("/b"))
BASE = Seat(A)
RED, BLUE = Seat(A, "red", Path("/red")), Seat(A, "blue", Path("/blue"))
FULL = Seat(B)

UP = Engine(A, "serving")
LOADING = Engine(A, "loading")
DOWN = Engine(A, "down", retry_at=10.0)


def creating(seat: Seat) -> Want:
    return Want("pt", "Creating", (seat,))


def serving(*seats: Seat) -> Want:
    return Want("pt", "InService", seats)


def updating(*seats: Seat) -> Want:
    return Want("pt", "Updating", seats)


@pytest.mark.parametrize(
    ("wants", "engines", "expected"),
    [
        # Nothing wanted, nothing running.
        ([], [], []),
        # A throughput is created: start, wait, load, prove.
        ([creating(RED)], [], [Start(A)]),
        ([creating(RED)], [LOADING], []),
        ([creating(RED)], [UP], [Load(RED)]),
        ([creating(RED)], [replace(UP, adapters=frozenset({"red"}))], [Serve("pt", RED)]),
        ([creating(BASE)], [UP], [Serve("pt", BASE)]),
        ([creating(FULL)], [UP], [Start(B), Stop(A)]),
        # It cannot be served.
        ([creating(RED)], [replace(DOWN, fault="no memory")], [Fail("pt", "no memory")]),
        ([creating(RED)], [replace(UP, refused={"red": "does not fit"})], [Fail("pt", "does not fit")]),
        ([Want("pt", "Creating", (), "no weights")], [], [Fail("pt", "no weights")]),
        # An engine died that had served: whoever waits goes on waiting.
        ([creating(RED)], [DOWN], []),
        ([creating(RED)], [replace(DOWN, retry_at=5.0)], [Start(A)]),
        ([serving(RED)], [replace(DOWN, fault="no memory")], []),
        ([serving(RED)], [replace(DOWN, fault="no memory", retry_at=5.0)], [Start(A)]),
        # In service: kept there, nothing proven again, nothing failed.
        ([serving(RED)], [replace(UP, adapters=frozenset({"red"}))], []),
        ([serving(RED)], [UP], [Load(RED)]),
        ([serving(RED)], [replace(UP, refused={"red": "does not fit"})], []),
        # Updating: the new one is loaded beside the old one, which stays.
        ([updating(RED, BLUE)], [replace(UP, adapters=frozenset({"red"}))], [Load(BLUE)]),
        ([updating(RED, BLUE)], [replace(UP, adapters=frozenset({"red", "blue"}))], [Serve("pt", BLUE)]),
        ([updating(RED, BLUE)], [replace(UP, adapters=frozenset({"red"}), refused={"blue": "no"})], [Fail("pt", "no")]),
        ([updating(RED, FULL)], [replace(UP, adapters=frozenset({"red"}))], [Start(B)]),
        ([Want("pt", "Updating", (RED,), "gone")], [replace(UP, adapters=frozenset({"red"}))], [Fail("pt", "gone")]),
        # The old one goes when nobody wants or asks it.
        ([serving(BLUE)], [replace(UP, adapters=frozenset({"red", "blue"}))], [Unload(A, "red")]),
        ([serving(BLUE)], [replace(UP, adapters=frozenset({"red", "blue"}), leased=frozenset({"red"}))], []),
        ([serving(BLUE)], [replace(LOADING, adapters=frozenset())], []),
        # So does a whole engine.
        ([], [replace(UP, adapters=frozenset({"red"}))], [Stop(A)]),
        ([], [replace(UP, leased=frozenset({None}))], []),
        ([], [LOADING], [Stop(A)]),
        ([], [DOWN], [Stop(A)]),
        # Two throughputs of one base share its engine; a move is made once.
        ([creating(RED), Want("two", "Creating", (BLUE,))], [], [Start(A)]),
        ([creating(RED), Want("two", "Creating", (RED,))], [UP], [Load(RED)]),
        (
            [creating(RED), Want("two", "Creating", (RED,))],
            [replace(UP, adapters=frozenset({"red"}))],
            [Serve("pt", RED), Serve("two", RED)],
        ),
        # A base that was asked lately keeps its engine.
        ([Want("base", "OnDemand", (BASE,))], [], [Start(A)]),
        ([Want("base", "OnDemand", (BASE,))], [UP], []),
        ([Want("base", "OnDemand", (), "no weights")], [], []),
    ],
)
def test_moves(wants: list[Want], engines: list[Engine], expected: list[Move]) -> None:
    assert moves(wants, {engine.place: engine for engine in engines}, clock=7.0) == expected
