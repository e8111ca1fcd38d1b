"""What a job would start from, as --model names it: a foundation model's row, or a custom model and the row behind it.

Knows the catalogue and, where there is a data directory, its store; every mistake is told with the way out.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import typer

from outcrop.commands.options import open_store
from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.records import Arn
from outcrop.records import Model as CustomModel
from outcrop.settings import Settings

if TYPE_CHECKING:
    from outcrop.catalog.catalog import Catalog
    from outcrop.catalog.rows import Customization, FoundationModel

NEAR: Final = 0.75
"""Likeness (difflib's ratio) from which on a name may have been meant."""
SUGGESTED: Final = 5
WORD: Final = re.compile(r"[a-z]+|[0-9]+")
LIST: Final = "`outcrop models list` has all foundation models"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID",
        help="The model that the dataset is meant for: a foundation model by any of its ids (`outcrop models list` has "
        "them), or a custom model of the data directory by name or ARN.",
        show_default=False,
    ),
]
Type = Annotated[
    str,
    typer.Option("--type", metavar="TYPE", help="FINE_TUNING or CONTINUED_PRE_TRAINING.", show_default=True),
]


class Models(Protocol):
    """The part of the store's models that a start is found in."""

    def weights_of(self, model_id: str) -> str | None:
        """See WeightsChoice."""
        ...

    def by_arn(self, arn: str) -> CustomModel | None:
        """The custom model of this ARN."""
        ...

    def named(self, identifier: str) -> list[CustomModel]:
        """The custom models of this name, id or ARN, of all regions, newest first."""
        ...

    def names(self) -> list[str]:
        """Names of all custom models."""
        ...


class NoModels:
    """Without a data directory nobody has chosen other weights, and there are no custom models."""

    def weights_of(self, model_id: str) -> str | None:
        """None, for each of them."""
        return None

    def by_arn(self, arn: str) -> CustomModel | None:
        """None."""
        return None

    def named(self, identifier: str) -> list[CustomModel]:
        """None."""
        return []

    def names(self) -> list[str]:
        """None."""
        return []


@dataclass(frozen=True, slots=True)
class Start:
    """What a job would start from."""

    row: "FoundationModel"
    arn: str
    """The foundation model's, or the custom model's."""
    custom: CustomModel | None = None


@contextmanager
def known_models(settings: Settings) -> Iterator[Models]:
    """The models of the data directory's store, if there is one."""
    if not DataDirectory(settings.data.absolute()).credentials.exists():
        yield NoModels()
        return
    with open_store(settings.data) as store:
        yield store.models


def find_start(catalog: "Catalog", models: Models, model: str | None, region: str) -> Start:
    """The model by any name that CreateModelCustomizationJob takes for baseModelIdentifier; raises OutcropError."""
    if model is None:
        listed = "\n  ".join(row.long_id for row in catalog.rows)
        raise OutcropError(f"which model is the dataset meant for? Give --model and one of\n  {listed}")
    if row := catalog.find(model):
        return Start(row, str(Arn("bedrock", region, "", f"foundation-model/{row.long_id}")))
    custom = _custom(models, model, region)
    if custom is None:
        names = models.names()
        near = _near(model, {**{name: name for name in names}, **_spellings(catalog)})
        own = f"; custom models here: {', '.join(names[:SUGGESTED])}{', …' * (len(names) > SUGGESTED)}" if names else ""
        raise OutcropError(f"there is no model {model!r}; {_hint(near)}{own}")
    found = catalog.find(custom.base_model_id)
    if found is None:
        raise OutcropError(f"{model} was customized from {custom.base_model_id}, which the catalogue has no more")
    if custom.status != "Active":
        raise OutcropError(f"{model} is {custom.status}: only an Active custom model can be customized")
    return Start(found, custom.arn, custom)


def find_row(catalog: "Catalog", model: str) -> "FoundationModel":
    """The row of a foundation model; raises OutcropError that suggests what is near."""
    row = catalog.find(model)
    if row is None:
        raise OutcropError(f"{model!r} is no model of the catalogue; {_hint(_near(model, _spellings(catalog)))}")
    return row


def find_kind(row: "FoundationModel", type: str) -> "Customization":
    """The customization type; raises OutcropError that lists what the model can."""
    wanted = type.upper().replace("-", "_")
    for kind in row.customizations:
        if kind == wanted:
            return kind
    kinds = ", ".join(row.customizations) or "in no way"
    raise OutcropError(f"--type {type}: {row.long_id} can be customized by {kinds}")


def _custom(models: Models, model: str, region: str) -> CustomModel | None:
    """The custom model; of several of a name in different regions, that of the settings' region."""
    found = models.named(model)
    here = [each for each in found if each.region == region] or found
    if len(here) > 1:
        raise OutcropError(f"{model!r} names {len(here)} models; give the ARN: {', '.join(m.arn for m in here)}")
    return here[0] if here else None


def _spellings(catalog: "Catalog") -> dict[str, str]:
    return {name: row.long_id for row in catalog.rows for name in (*row.ids, row.name)}


def _near(given: str, spellings: Mapping[str, str]) -> list[str]:
    """What may have been meant: a spelling that has what was given in it, is nearly the same, or has all its words."""
    wanted = _words(given)
    letters = "".join(wanted)
    if not any(len(word) > 2 for word in wanted):
        return []
    plain = {"".join(_words(spelling)): name for spelling, name in spellings.items()}
    found = [name for spelling, name in plain.items() if letters in spelling]
    found += [plain[each] for each in get_close_matches(letters, plain, n=SUGGESTED, cutoff=NEAR)]
    found += [name for spelling, name in spellings.items() if _holds(_words(spelling), wanted)]
    return list(dict.fromkeys(found))[:SUGGESTED]


def _words(name: str) -> list[str]:
    return WORD.findall(name.lower())


def _holds(words: list[str], wanted: list[str]) -> bool:
    return all(each in words or (len(each) > 2 and get_close_matches(each, words, 1, NEAR)) for each in wanted)


def _hint(near: list[str]) -> str:
    return f"did you mean {' or '.join(near)}? {LIST}" if near else LIST
