"""What every operation needs: the literal tables of all services, behind admission."""

from collections.abc import Mapping
from typing import Final

from outcrop.api.actions.bedrock import BEDROCK, BEDROCK_RUNTIME
from outcrop.api.actions.iam import IAM, STS
from outcrop.api.actions.need import Need
from outcrop.api.actions.s3 import S3

TABLE: Final[Mapping[str, Mapping[str, tuple[Need, ...]]]] = {
    "bedrock": BEDROCK,
    "bedrock-runtime": BEDROCK_RUNTIME,
    "iam": IAM,
    "s3": S3,
    "sts": STS,
}
