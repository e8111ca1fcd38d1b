"""What an engine says, piece by piece: the white space that a model writes before an answer is no part of it."""

import pytest

from outcrop.datasets.lead import Lead


@pytest.mark.parametrize(
    ("lead", "pieces", "shown"),
    [
        ("", [" a", " b"], [" a", " b"]),
        (" ", [" a", " b"], ["a", " b"]),
        (" ", ["", " ", " a"], ["", "", " a"]),
        ("\n\n", ["\n", "\n", "a\n\n"], ["", "", "a\n\n"]),
        ("\n\n", ["\n", "a", "\n\nb"], ["", "\na", "\n\nb"]),
        ("\n\n", ["a", "\n\n"], ["a", "\n\n"]),
        # An answer that ends within it is the model's own.
        ("\n\n", ["\n"], ["\n"]),
        ("\n\n", ["\n\n"], [""]),
    ],
)
def test_what_stands_before_an_answer_is_taken_off_its_stream(lead: str, pieces: list[str], shown: list[str]) -> None:
    taken = Lead(lead)
    *early, last = pieces
    assert [*(taken.off(piece) for piece in early), taken.off(last) + taken.rest()] == shown
