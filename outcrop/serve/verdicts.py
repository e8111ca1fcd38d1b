"""What the fleet tells the store of its targets: that a model answers, or why it cannot be served.

Knows the verbs of throughputs and deployments; nothing of engines. A target that is gone by now is no business of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from outcrop.records import DEPLOYMENT, PROVISIONED_MODEL, kind_of
from outcrop.store.refusals import Gone
from outcrop.store.store import Store

log = structlog.get_logger()


def provisioned(target: str) -> bool:
    """Whether a target is a throughput; anything else is served on demand."""
    return kind_of(target) == PROVISIONED_MODEL


def deployed(target: str) -> bool:
    """Whether a target is a custom model deployment."""
    return kind_of(target) == DEPLOYMENT


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Writes what was found out about targets."""

    store: Store
    now: Callable[[], datetime]

    def proven(self, target: str) -> bool:
        """The model that the target waits for has answered; false where the target is gone."""
        try:
            if provisioned(target):
                self._in_service(target)
            else:
                self.store.deployments.proven(target, self.now())
        except Gone:
            return False
        return True

    def failed(self, target: str, reason: str) -> None:
        """The model that the target waits for cannot be served."""
        failed = self.store.throughputs.failed if provisioned(target) else self.store.deployments.failed
        try:
            failed(target, reason, self.now())
        except Gone:
            return
        log.error("model cannot be served", target=target, reason=reason)

    def _in_service(self, target: str) -> None:
        throughputs = self.store.throughputs
        present = throughputs.by_arn(target)
        if present is None:
            raise Gone(target)
        settle = throughputs.updated if present.status == "Updating" else throughputs.in_service
        settle(target, self.now())
