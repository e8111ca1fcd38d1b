"""One permission that an operation needs: an action, and what of a request tells its resource and condition keys.

Knows AWS's names only; who may do what is `identity`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outcrop.records import Arn
from outcrop.store.store import Store


@dataclass(frozen=True, slots=True)
class Target:
    """One request, as far as its resource is concerned."""

    params: Mapping[str, Any]
    region: str
    account: str
    store: Store

    def arn(self, service: str, resource: str, *, region: str | None = None, account: str | None = None) -> str:
        """An ARN of this request's region and account, unless others are given."""
        place = self.region if region is None else region
        return str(Arn(service, place, self.account if account is None else account, resource))


Finder = Callable[[Target], str]
Values = Mapping[str, str | Sequence[str]]


def nothing(_target: Target) -> Values:
    """No condition keys of its own."""
    return {}


@dataclass(frozen=True, slots=True)
class Need:
    """One permission that an operation needs."""

    action: str
    on: Finder
    given: Callable[[Target], Values] = nothing
    """The operation's own condition keys."""
    when: str | None = None
    """Needed only where the request has this member."""


def every(_target: Target) -> str:
    """Actions that name no resource."""
    return "*"


def tag_values(tags: Sequence[Mapping[str, str]], key: str, value: str) -> Values:
    """aws:RequestTag/… and aws:TagKeys of tags whose members are called so."""
    if not tags:
        return {}
    return {f"aws:RequestTag/{tag[key]}": tag[value] for tag in tags} | {"aws:TagKeys": [tag[key] for tag in tags]}


def tag_keys(target: Target) -> Values:
    """aws:TagKeys of tags that are to go."""
    return {"aws:TagKeys": list(target.params.get("tagKeys") or target.params.get("TagKeys") or ())}
