"""What kernels keep on disk for the next process is never another kernel's code, nor what keeps one from starting."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GATES = """
import torch
from outcrop.kernels import rows
print([rows.gate(torch.tensor([[3.0, 2.0]], dtype=kind)).item() for kind in (torch.float32, torch.bfloat16)])
"""
PRODUCT = """
import torch
from outcrop.engines.products import Product
print(Product(torch.ones(3, 4).bfloat16())(torch.ones(2, 4).bfloat16()).tolist())
"""
TOLD = [5.7154, 5.71875]


def run(program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def gates(folder: Path) -> str:
    """What it says beside the right answers."""
    done = run(GATES, NUMBA_CACHE_DIR=str(folder))
    assert [float(one) for one in done.stdout.strip("[]\n").split(",")] == pytest.approx(TOLD, abs=1e-3)
    return done.stderr


def test_no_two_kernels_share_a_name(tmp_path: Path) -> None:
    # Those that do are numbered, and two processes may take one number for two kernels.
    assert gates(tmp_path) == ""
    kept = sorted(path.name for path in tmp_path.rglob("*.nbc"))
    assert len(kept) == len(list(tmp_path.rglob("*.nbi"))) == 2
    assert all(name.endswith(".1.nbc") for name in kept)


@pytest.mark.parametrize("length", [0, 100])
def test_a_file_that_was_cut_off_costs_time_only(length: int, tmp_path: Path) -> None:
    gates(tmp_path)
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:length])
    assert "compiled anew" in gates(tmp_path)


def test_numba_may_be_told_to_use_less_than_the_machine_has() -> None:
    assert run(PRODUCT, NUMBA_ENABLE_AVX="0").stdout == f"{[[4.0] * 3] * 2}\n"
