"""Which folders stand behind a model: the weights of a foundation model, or those that a custom model was made of.

Jobs start from here and engines serve from here, so both always mean the same weights. Knows catalogue rows and the
records of custom models; nothing of stores, jobs or engines.
"""

from dataclasses import dataclass
from pathlib import Path

from outcrop.catalog.catalog import Catalog
from outcrop.errors import OutcropError
from outcrop.records import Model


@dataclass(frozen=True, slots=True)
class Origin:
    """The weights behind a model."""

    weights: str
    """Name of the foundation weights that all of it stands on: bundled:text, a folder, …"""
    base: Path
    """Folder of a whole model: those weights themselves, or a custom model that is whole."""
    adapter: Path | None = None
    """Folder of the custom model's adapter on `base`."""
    custom: Model | None = None
    """The custom model; None: `base` is what the foundation model runs."""

    @property
    def whole(self) -> bool:
        """Whether `base` is itself a custom model."""
        return self.custom is not None and self.adapter is None


def origin_of_foundation(catalog: Catalog, weights: str) -> Origin:
    """The origin that weights of this name are; raises OutcropError where they are not there."""
    return Origin(weights, catalog.weights_folder(weights))


def origin_of_custom(catalog: Catalog, model: Model, models: Path) -> Origin:
    """The weights that a custom model was made of, whatever stands behind its foundation model's id by now.

    models: folder of custom models, one an id. Raises OutcropError where its own weights or those beneath are missing.
    """
    folder = models / model.id
    if not folder.is_dir():
        raise OutcropError(f"the weights of {model.arn} are not at {folder}")
    if model.method == "full":
        return Origin(model.base_weights, folder, custom=model)
    return Origin(model.base_weights, catalog.weights_folder(model.base_weights), adapter=folder, custom=model)
