"""IAM's lists: Marker, MaxItems and IsTruncated over anything that is sorted by a text key, and its tags' rules."""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from outcrop.api.iam_faults import invalid

Item = TypeVar("Item")

DEFAULT_ITEMS: Final = 100
"""MaxItems where none is asked for."""
MOST_TAGS: Final = 50
"""Tags on one role or policy (IAM quotas)."""


def position(params: Mapping[str, Any]) -> tuple[str, int]:
    """The key after which a page starts ("" at the beginning) and its greatest length; refuses a foreign Marker."""
    marker = params.get("Marker")
    if marker is None:
        return "", params.get("MaxItems") or DEFAULT_ITEMS
    try:
        after = b64decode(marker.encode(), altchars=b"-_", validate=True).decode()
    except (NotBase64, UnicodeError) as error:
        raise invalid(f"Invalid Marker: {marker!r} came from no list of this service.") from error
    return after, params.get("MaxItems") or DEFAULT_ITEMS


def page(
    params: Mapping[str, Any],
    items: Sequence[Item],
    key: Callable[[Item], str],
    member: str,
    show: Callable[[Item], Any],
) -> dict[str, Any]:
    """The answer of a list: one page of the sorted items, and the Marker of the next where there is one."""
    after, most = position(params)
    return cut([item for item in items if key(item) > after], most, key, member, show)


def cut(
    items: Sequence[Item], most: int, key: Callable[[Item], str], member: str, show: Callable[[Item], Any]
) -> dict[str, Any]:
    """The answer of a list whose items start at the page; one more than `most` shows that there is another."""
    answer: dict[str, Any] = {member: [show(item) for item in items[:most]], "IsTruncated": len(items) > most}
    if len(items) > most:
        answer["Marker"] = urlsafe_b64encode(key(items[most - 1]).encode()).decode()
    return answer


def read_tags(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags as a mapping; refuses AWS's own prefix and keys that differ in case only."""
    tags = {tag["Key"]: tag["Value"] for tag in given}
    if len({key.lower() for key in tags}) != len(given):
        raise invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    for key in tags:
        if key.lower().startswith("aws:"):
            raise invalid(f"Tag key {key!r} begins with aws:, which is reserved for AWS's own use.")
    return tags


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as IAM lists them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
