"""A curve in a few lines of characters. Knows numbers, columns and rows; nothing of what is measured."""

from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean
from typing import Final

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
MARK: Final = "●"
LABEL: Final = 11
"""Characters of the scale at the left: its longest names are like 6.173e-06."""


def spark(values: Mapping[int, float], marks: Mapping[int, float], width: int, height: int) -> list[str]:
    """Lines of a bar chart, top first: values in ascending order of their keys, marks over the bars.

    Keys are places on the same axis. The lowest value is a thin line at the bottom, the highest fills the height.
    """
    columns = max(1, min(width - LABEL, len(values)))
    places = sorted(values)
    bounds = [index * len(places) // columns for index in range(columns + 1)]
    means = [fmean(values[place] for place in places[start:end]) for start, end in pairwise(bounds)]
    shown = [*means, *marks.values()]
    low, high = min(shown), max(shown)
    rows = [[_block(value, low, high, height, row) for value in means] for row in range(height)]
    for place, value in marks.items():
        column = min(columns - 1, sum(known < place for known in places) * columns // len(places))
        rows[min(height - 1, int(_level(value, low, high, height) / len(BLOCKS[1:])))][column] = MARK
    scale = [""] * height
    scale[0], scale[-1] = f"{low:.4g}", f"{high:.4g}"
    return [f"{name:>{LABEL - 2}} {'│'}" + "".join(row) for name, row in zip(scale[::-1], rows[::-1], strict=True)]


def _level(value: float, low: float, high: float, height: int) -> float:
    """Eighths of a row above the bottom, from 1 to all; in the middle where all values are the same."""
    most = height * (len(BLOCKS) - 1)
    return 1 + (most - 1) * ((value - low) / (high - low)) if high > low else most / 2


def _block(value: float, low: float, high: float, height: int, row: int) -> str:
    """What of a bar stands in a row, counted from the bottom."""
    eighths = round(_level(value, low, high, height)) - row * (len(BLOCKS) - 1)
    return BLOCKS[min(max(eighths, 0), len(BLOCKS) - 1)]
