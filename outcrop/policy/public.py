"""Whether a bucket's policy lets everybody in, as S3 means it: behind IsPublic and the public access block.

Pure; the text was read and found good before. Source: S3 User Guide, "The meaning of public".
"""

import json
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any, Final

FIXED: Final = frozenset(
    {
        *("aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner", "aws:sourceaccount", "aws:userid"),
        *("aws:principalarn", "aws:principalaccount", "aws:principalorgid", "aws:principalorgpaths"),
        *("s3:x-amz-server-side-encryption-aws-kms-key-id", "s3:dataaccesspointarn", "s3:dataaccesspointaccount"),
    }
)
"""Condition keys whose fixed values keep a statement for everyone from being public."""

NARROWEST_OPEN: Final = {4: 8, 6: 32}
"""A range of addresses with a shorter prefix than this counts as everybody."""


def is_public(policy: str) -> bool:
    """Whether some statement allows something to everyone without a condition that narrows who that is."""
    statements = json.loads(policy)["Statement"]
    return any(_opens(one) for one in ([statements] if isinstance(statements, dict) else statements))


def _opens(statement: Mapping[str, Any]) -> bool:
    """Whether one statement makes the policy public."""
    if statement["Effect"] != "Allow":
        return False
    principal = statement.get("Principal", "*")  # With NotPrincipal, all but a few are everybody.
    if principal != "*" and "*" not in _listed(principal.get("AWS", [])):
        return False
    conditions = statement.get("Condition", {})
    return not any(
        _narrows(operator.lower(), key.lower(), _listed(values))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _narrows(operator: str, key: str, values: Iterable[Any]) -> bool:
    """Whether a condition holds for a fixed set of callers only."""
    if "not" in operator or operator.endswith("ifexists") or operator.startswith("forallvalues"):
        return False
    if key == "aws:sourceip":
        networks = [ip_network(value, strict=False) for value in values]
        return all(network.prefixlen >= NARROWEST_OPEN[network.version] for network in networks)
    return key in FIXED and not any(sign in str(value) for value in values for sign in ("*", "?", "${"))


def _listed(values: Any) -> list[Any]:
    """A value, or a list of values, as a list."""
    return values if isinstance(values, list) else [values]
