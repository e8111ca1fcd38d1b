"""How a layer attends, as kernels and torch's own operations are told alike. Knows numbers only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """How a layer attends."""

    scale: float
    window: int | None = None
    """Tokens that a row sees, itself included; None: all before it."""
    cap: float | None = None
    """Scores are bent by cap * tanh(score / cap)."""
