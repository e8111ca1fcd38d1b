"""Freed memory stays with the process, whichever C library it has."""

import ctypes
import platform
from types import SimpleNamespace

import pytest

from outcrop.train import heap


def test_this_machine_keeps_what_it_frees() -> None:
    assert heap.keep() == (platform.libc_ver()[0] == "glibc")


def test_an_older_glibc_takes_the_smaller_size_before_it_is_told_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def mallopt(parameter: int, value: int) -> int:
        if parameter == heap._MMAP_THRESHOLD and value > 32 << 20:
            return 0
        taken.append((parameter, value))
        return 1

    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.34"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert heap.keep()
    assert taken[0] == (heap._MMAP_THRESHOLD, 32 << 20)
    assert [parameter for parameter, _ in taken[1:]] == [heap._TRIM_THRESHOLD, heap._TOP_PAD]
