"""AWS's own managed policies (arn:aws:iam::aws:policy/…), read from the file beside this one and truly evaluated.

Knows their names and documents; nothing of who attaches them. A policy that is not in the file does not exist here:
pretending to know it would grant less, or more, than its name says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Final

from outcrop.policy.document import read

PREFIX: Final = "arn:aws:iam::aws:policy/"


@dataclass(frozen=True, slots=True)
class AwsPolicy:
    """A policy that AWS wrote, with the one version that counts."""

    arn: str
    name: str
    version: str
    created: datetime
    """Of that version."""
    document: str
    id: str | None = None
    """ANPA…, where it is known."""


def load() -> Mapping[str, AwsPolicy]:
    """All of them by ARN."""
    text = resources.files("outcrop.policy").joinpath("aws_managed.json").read_text("utf-8")
    found = {}
    for row in json.loads(text)["policies"]:
        document = json.dumps(row["document"], indent=2)
        read(document, "identity")
        arn = PREFIX + row["name"]
        created = datetime.fromisoformat(row["created"])
        found[arn] = AwsPolicy(arn, row["name"], row["version"], created, document, row.get("id"))
    return found
