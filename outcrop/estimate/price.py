"""What a customization costs: AWS's list price, and beside it what this machine costs in the same time.

AWS's prices are columns of the catalogue and are told as such: list prices of some date, unknown where no reliable
source names one. Pure arithmetic.
"""

from dataclasses import asdict, dataclass
from typing import Any

from outcrop.catalog.rows import Prices

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars; None where it is not known."""

    tokens: int
    """What AWS would charge for: characters / 6 (Claude: 3), of all epochs."""
    aws_training: float | None
    aws_storage_month: float | None
    """Each month that the custom model is kept."""
    aws_unit_hour: float | None
    """One model unit of provisioned throughput, no commitment: what serving it costs."""
    machine_hour: float | None
    """The setting machine_cost_per_hour."""
    ours_low: float
    ours_high: float
    """0 beyond the machine itself where machine_hour is not set."""

    def document(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def price(
    prices: Prices,
    characters: int,
    per_token: int,
    epochs: int,
    *,
    seconds: tuple[float, float] | None,
    machine_hour: float | None,
) -> Price:
    """characters: of the training file's texts, once; seconds: the job's range, None where it is not known."""
    tokens = -(-characters // per_token) * epochs
    rate = prices.training_per_1k_tokens
    low, high = ((bound / HOUR) * (machine_hour or 0.0) for bound in seconds or (0.0, 0.0))
    return Price(
        tokens=tokens,
        aws_training=None if rate is None else tokens / 1000 * rate,
        aws_storage_month=prices.storage_per_month,
        aws_unit_hour=prices.unit_hour,
        machine_hour=machine_hour,
        ours_low=low,
        ours_high=high,
    )
