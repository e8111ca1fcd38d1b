"""Ctrl-C reaches whoever loops, also where Python drops the exception that it raises."""

import signal

import pytest

from outcrop.commands.ctrl_c import ctrl_c


def test_it_interrupts_as_ever_and_gives_the_handler_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c() as obey:
        obey()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_was_dropped_is_obeyed_when_asked_for() -> None:
    class Last:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with ctrl_c() as obey:
        last = Last()
        del last  # what is raised in there is printed and forgotten
        with pytest.raises(KeyboardInterrupt):
            obey()
