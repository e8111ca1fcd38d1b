"""Bytes that a training run keeps on disk, reckoned once for who foretells them and for who demands them.

Knows arithmetic; nothing of files, models or torch.
"""

from typing import Final

NUMBER: Final = 4
"""Of a trained number: masters are float32."""
SAVED: Final = 3 * NUMBER
"""Of a trained number in a checkpoint: itself and AdamW's two moments."""
CHECKPOINTS_AT_ONCE: Final = 3
"""The last two, and one that is being written."""


def checkpoints(trained: int, *, early_stopping: bool) -> int:
    """What checkpoints take at their largest moment, of a run that trains so many numbers.

    Early stopping keeps the best weights beside them, in as many copies, without the moments.
    """
    return trained * CHECKPOINTS_AT_ONCE * (SAVED + (NUMBER if early_stopping else 0))
