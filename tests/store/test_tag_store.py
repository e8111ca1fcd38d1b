"""Tags in the store."""

import pytest

from outcrop.store.refusals import OverQuota
from outcrop.store.tags import TagStore


def many(start: int, stop: int) -> list[dict[str, str]]:
    return [{"key": f"k{number:02d}", "value": str(number)} for number in range(start, stop)]


def test_put_replace_and_remove(tags: TagStore) -> None:
    tags.put("arn:a", many(0, 3), 50)
    tags.put("arn:b", many(0, 1), 50)
    tags.put("arn:a", [{"key": "k01", "value": "new"}], 50)
    tags.put("arn:a", [], 50)
    assert tags.of("arn:a") == [
        {"key": "k00", "value": "0"},
        {"key": "k01", "value": "new"},
        {"key": "k02", "value": "2"},
    ]
    tags.remove("arn:a", ["k00", "k02", "never-there"])
    assert tags.of("arn:a") == [{"key": "k01", "value": "new"}]
    assert tags.of("arn:b") == many(0, 1)


def test_the_limit_counts_what_is_there_and_replaced_tags_once(tags: TagStore) -> None:
    tags.put("arn:a", many(0, 50), 50)
    tags.put("arn:a", many(10, 20), 50)
    with pytest.raises(OverQuota):
        tags.put("arn:a", [{"key": "one-more", "value": ""}, {"key": "k00", "value": "new"}], 50)
    assert tags.of("arn:a") == many(0, 50)
