"""Weights that are really too large for any machine: a header and a hole in a file, which take no room on the disk."""

import json
import shutil
from pathlib import Path


def make_vast(folder: Path, bundled: Path, parameters: int) -> Path:
    """A copy of a small model's folder whose one tensor has this many bfloat16 numbers, all of them a hole."""
    shutil.copytree(bundled, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    entry = {"dtype": "BF16", "shape": [parameters // 1000, 1000], "data_offsets": [0, parameters * 2]}
    header = json.dumps({"model.layers.0.mlp.up_proj.weight": entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + parameters * 2)
    return folder
