"""What is asked for, and the whole answer to it as JSON's types: the same members for check, plan and the dry run.

AWS's names where AWS has one. Knows the survey and the estimate; nothing of screens or requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcrop.estimate.estimate import Estimate
from outcrop.estimate.survey import Survey


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job that might be created."""

    model_id: str
    """The foundation model's long id."""
    model_name: str
    base_arn: str
    """What the job would start from: the foundation model, or a custom model that came from it."""
    customization: str
    format: str
    """Of its datasets."""
    hyperparameters: Mapping[str, str]
    """As a job would echo them: defaults filled in."""
    warnings: tuple[str, ...] = ()


def check_document(proposal: Proposal, checked: Survey | None, *, failure: str | None = None) -> dict[str, Any]:
    """The answer where only the data were asked about; checked: None where they could not be had, as `failure` says."""
    return {
        "passed": failure is None and checked is not None and checked.passed,
        "model": proposal.model_id,
        "baseModelArn": proposal.base_arn,
        "customizationType": proposal.customization,
        "format": proposal.format,
        "hyperParameters": dict(proposal.hyperparameters),
        "warnings": list(proposal.warnings),
        "failureMessage": failure or (checked.failure if checked else None),
        "dataset": checked.document() if checked else None,
    }


def document(
    proposal: Proposal, checked: Survey | None, found: Estimate | None, *, failure: str | None = None
) -> dict[str, Any]:
    """The answer to a plan. found: None where the job would fail before it has one."""
    said = check_document(proposal, checked, failure=failure or (found.failure if found else None))
    return {**said, "estimate": found.document() if found else None}
