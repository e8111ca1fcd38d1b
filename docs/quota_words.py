"""Quotas in words: what a row bounds, as people read it. Knows the columns and no page."""

from collections.abc import Iterator
from typing import Final

from outcrop.catalog.rows import Quotas, TokenQuota

SUBJECTS: Final = (
    "tokens a record",
    "training records",
    "validation records",
    "records in all",
    "training file",
    "validation file",
    "reserved words",
)


def quota_words(quotas: Quotas) -> dict[str, list[str]]:
    """Subject to the bounds on it; what AWS does not bound is left out."""
    ranges = (
        ("training records", quotas.min_records, quotas.max_records),
        ("validation records", quotas.min_validation_records, quotas.max_validation_records),
        ("records in all", quotas.min_sum_records, quotas.max_sum_records),
    )
    sizes = (("training file", quotas.max_training_bytes), ("validation file", quotas.max_validation_bytes))
    found = {
        "tokens a record": list(_tokens(quotas.tokens)),
        **{subject: [_range(least, most)] for subject, least, most in ranges if least or most},
        **{subject: [f"at most {_size(most)}"] for subject, most in sizes if most},
        "reserved words": [f"`{word.encode('unicode_escape').decode()}`" for word in quotas.reserved],
    }
    return {subject: found[subject] for subject in SUBJECTS if found.get(subject)}


def sentence(quotas: Quotas) -> str:
    """All of a row's quotas in one sentence."""
    parts = [f"{subject}: {', '.join(words)}" for subject, words in quota_words(quotas).items()]
    if not parts:
        return "No quota."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _tokens(quotas: tuple[TokenQuota, ...]) -> Iterator[str]:
    least = 1
    for quota in quotas:
        named = (("input", quota.input), ("output", quota.output), ("input + output", quota.total))
        bounds = ", ".join(f"{what} at most {number:,}" for what, number in named if number)
        last = quota is quotas[-1]
        yield bounds if len(quotas) == 1 else f"{bounds} at batch size {_batches(least, quota.up_to_batch, last)}"
        least = (quota.up_to_batch or 0) + 1


def _batches(least: int, most: int | None, last: bool) -> str:
    """The last line of AWS's table holds for larger batches too, which AWS's hyperparameters allow."""
    if last or most is None:
        return f"{least} and more"
    return f"{least}" if least == most else f"{least} to {most}"


def _range(least: int | None, most: int | None) -> str:
    if least and most:
        return f"{least:,} to {most:,}"
    return f"at least {least:,}" if least else f"at most {most:,}"


def _size(count: int) -> str:
    """Bytes as AWS writes them: 1 GB is 2 to the 30."""
    return f"{count >> 30} GB" if count >= 1 << 30 else f"{count >> 20} MB"
