"""From what is promised or asked to where it is served: which weights, which adapter.

Knows the store and the catalogue; nothing of engines.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from outcrop.catalog.catalog import Catalog, effective_weights
from outcrop.catalog.origin import origin_of_custom
from outcrop.errors import OutcropError
from outcrop.records import CUSTOM_MODEL, Deployment, Throughput, kind_of
from outcrop.serve.wants import Place, Seat, Want
from outcrop.store.store import Store


@dataclass(frozen=True, slots=True)
class Seating:
    """Finds the seats of models. models: folder of custom models, one an id."""

    store: Store
    catalog: Catalog
    models: Path

    def of_throughput(self, throughput: Throughput) -> Want:
        """A throughput's seats: what serves now, then what is to serve."""
        status: Literal["Creating", "InService", "Updating"] = "InService"
        if throughput.status in ("Creating", "Updating"):
            status = "Creating" if throughput.status == "Creating" else "Updating"
        seats, broken = self._seats(throughput.model_arn, throughput.desired_model_arn)
        return Want(throughput.arn, status, seats, broken, provisioned=True)

    def of_deployment(self, deployment: Deployment) -> Want:
        """A deployment's seats: what answers now, and what an update is to bring."""
        if deployment.status == "Creating":
            seats, broken = self._seats(deployment.model_arn)
            return Want(deployment.arn, "Creating", seats, broken)
        if deployment.update_status != "Updating":
            seats, broken = self._seats(deployment.model_arn)
            return Want(deployment.arn, "OnDemand", seats, broken)
        if deployment.status == "Failed":
            # What it was created for never answered, so there is nothing that could go on answering.
            seats, broken = self._seats(deployment.desired_model_arn)
            return Want(deployment.arn, "Creating", seats, broken)
        seats, broken = self._seats(deployment.model_arn, deployment.desired_model_arn)
        return Want(deployment.arn, "Updating", seats, broken)

    def of_base(self, model_id: str) -> Want:
        """The seat of a foundation model that is asked without throughput."""
        seats, broken = self._seats(model_id)
        return Want(model_id, "OnDemand", seats, broken)

    def _seats(self, *identifiers: str) -> tuple[tuple[Seat, ...], str | None]:
        """The seats of models, each once, and why one of them has none."""
        seats: list[Seat] = []
        broken: str | None = None
        for identifier in dict.fromkeys(identifiers):
            try:
                seats.append(self.of_model(identifier))
            except OutcropError as fault:
                broken = str(fault)
        return tuple(seats), broken

    def of_model(self, identifier: str) -> Seat:
        """Where a custom model (ARN) or a foundation model (id or ARN) is served.

        Raises OutcropError when the model or its weights are not there.
        """
        if kind_of(identifier) == CUSTOM_MODEL:
            return self._of_custom_model(identifier)
        row = self.catalog.find(identifier)
        if row is None:
            raise OutcropError(f"the catalogue has no model {identifier}")
        return Seat(Place(self.catalog.weights_folder(effective_weights(row, self.store.models)), row.engine))

    def rate(self, throughput: Throughput) -> int:
        """Tokens a minute that a throughput's units admit together."""
        return self.promise(throughput.base_model_id, throughput.units)

    def promise(self, base_model_id: str, units: int) -> int:
        """Tokens a minute that units of a base or of its custom models admit together."""
        row = self.catalog.find(base_model_id)
        return units * row.tokens_per_minute_per_unit if row else 0

    def _of_custom_model(self, arn: str) -> Seat:
        model = self.store.models.by_arn(arn)
        if model is None:
            raise OutcropError(f"there is no model {arn}")
        found = origin_of_custom(self.catalog, model, self.models)
        row = self.catalog.find(model.base_model_id)
        place = Place(found.base, row.engine if row else "")
        return Seat(place) if found.adapter is None else Seat(place, model.id, found.adapter)
