"""The states of every noun and the legal moves between them, as one literal table. Nothing else may live here."""

from typing import Final

JOB: Final[dict[str, frozenset[str]]] = {
    "InProgress": frozenset({"Completed", "Failed", "Stopping"}),
    # A job whose last step ended while the stop was on its way is Completed: the work is done and paid for.
    "Stopping": frozenset({"Stopped", "Completed", "Failed"}),
    "Completed": frozenset(),
    "Failed": frozenset(),
    "Stopped": frozenset(),
}

JOB_PART: Final[dict[str, frozenset[str]]] = {
    "NotStarted": frozenset({"InProgress", "Stopped"}),
    "InProgress": frozenset({"Completed", "Failed", "Stopping", "Stopped"}),
    "Stopping": frozenset({"Stopped", "Completed", "Failed"}),
    "Completed": frozenset(),
    "Failed": frozenset(),
    "Stopped": frozenset(),
}

MODEL: Final[dict[str, frozenset[str]]] = {
    "Creating": frozenset({"Active", "Failed"}),
    "Active": frozenset(),
    "Failed": frozenset(),
}

THROUGHPUT: Final[dict[str, frozenset[str]]] = {
    "Creating": frozenset({"InService", "Failed"}),
    "InService": frozenset({"Updating", "Failed"}),
    "Updating": frozenset({"InService", "Failed"}),
    "Failed": frozenset({"Updating"}),
}

DEPLOYMENT: Final[dict[str, frozenset[str]]] = {
    "Creating": frozenset({"Active", "Failed"}),
    "Active": frozenset(),
    # An update may bring a model that can be served.
    "Failed": frozenset({"Active"}),
}

# While a deployment is updated its status stays: the model that it had goes on answering.
DEPLOYMENT_UPDATE: Final[dict[str, frozenset[str]]] = {
    "Updating": frozenset({"UpdateCompleted", "UpdateFailed"}),
    "UpdateCompleted": frozenset({"Updating"}),
    "UpdateFailed": frozenset({"Updating"}),
}

TABLES: Final[dict[str, dict[str, frozenset[str]]]] = {
    "job": JOB,
    "job part": JOB_PART,
    "model": MODEL,
    "throughput": THROUGHPUT,
    "deployment": DEPLOYMENT,
    "deployment update": DEPLOYMENT_UPDATE,
}


class IllegalMove(Exception):
    """A state change that the table does not allow; carries the noun's name and both states."""

    def __init__(self, noun: str, name: str, start: str, finish: str) -> None:
        super().__init__(f"{noun} {name}: no move from {start} to {finish}")
        self.noun, self.name, self.start, self.finish = noun, name, start, finish


def check(noun: str, name: str, start: str, finish: str) -> None:
    """Raise IllegalMove unless the noun may go from start to finish; staying where it is always may."""
    if start != finish and finish not in TABLES[noun][start]:
        raise IllegalMove(noun, name, start, finish)
