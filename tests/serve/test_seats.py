"""Where models are served: custom ones on the weights they were made of, whatever stands behind their id by now."""

from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.errors import OutcropError
from outcrop.records import Model
from outcrop.serve.seats import Seating
from outcrop.serve.wants import Place, Seat
from outcrop.store.database import Database
from outcrop.store.store import Store
from tests.store.resources import LONG_ID, job, model

CATALOG = Catalog.load()
BUNDLED = CATALOG.weights_folder("bundled:text")


@pytest.fixture
def seating(tmp_path: Path) -> Seating:
    database = Database("sqlite://")
    database.create()
    (tmp_path / "models").mkdir()
    return Seating(Store.over(database), CATALOG, tmp_path / "models")


def keep(seating: Seating, made: Model) -> Model:
    """A custom model in the store and its folder on the disk."""
    kept = seating.store.jobs.add(job(int(made.id[3:])), None, made.id)
    seating.store.jobs.complete(kept.arn, made, {}, kept.created)
    (seating.models / made.id).mkdir()
    return made


def other_weights(folder: Path) -> Path:
    """Another folder in Hugging Face layout."""
    folder.mkdir()
    for path in BUNDLED.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def test_every_generation_of_adapters_shares_the_engine_of_its_base(seating: Seating, tmp_path: Path) -> None:
    adapters = [keep(seating, model(number)) for number in (1, 2, 3)]
    seats = [seating.of_model(made.arn) for made in adapters]
    assert seats == [Seat(Place(BUNDLED), made.id, seating.models / made.id) for made in adapters]
    folder = other_weights(tmp_path / "other")
    seating.store.models.use_weights(LONG_ID, str(folder))
    assert [seating.of_model(made.arn) for made in adapters] == seats
    assert seating.of_model(LONG_ID) == Seat(Place(folder))


def test_a_whole_model_has_an_engine_of_its_own(seating: Seating) -> None:
    whole = keep(seating, replace(model(1), method="full"))
    assert seating.of_model(whole.arn) == Seat(Place(seating.models / whole.id))


def test_what_is_missing_is_named(seating: Seating, tmp_path: Path) -> None:
    gone = keep(seating, model(1))
    (seating.models / gone.id).rmdir()
    with pytest.raises(OutcropError, match=f"weights of {gone.arn} are not at"):
        seating.of_model(gone.arn)
    baseless = keep(seating, replace(model(2), base_weights=str(tmp_path / "nowhere")))
    with pytest.raises(OutcropError, match="nowhere"):
        seating.of_model(baseless.arn)
    with pytest.raises(OutcropError, match="there is no model"):
        seating.of_model(model(3).arn)
