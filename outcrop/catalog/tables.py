"""Tables of TOML to rows: our own file and the user's, merged, with every name resolved and every default filled in.

Knows the two files and how a row is written; nothing of who asks the catalogue what.
"""

import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outcrop.catalog.decode import decode
from outcrop.catalog.engine import located, words
from outcrop.catalog.hyperparameters import MEANT, is_number, own, refuse_default
from outcrop.catalog.rows import CustomizationRow, FoundationModel, Parameter, WeightsRow
from outcrop.errors import OutcropError

NAMED: Final = ("hyperparameters", "quotas")
"""Columns of a way of customizing that may be the name of a table instead of a table."""
USERS: Final = ("models", *NAMED, "weights")
OURS: Final = ("defaults", *USERS)

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tables:
    """What the files say, checked row by row."""

    rows: tuple[FoundationModel, ...]
    weights: Mapping[str, WeightsRow]


def read(models: Path, extra: Path | None = None) -> Tables:
    """Read our file and the user's; raises OutcropError that names file, row, field and what is allowed.

    A table of the user's file is laid over ours of the same name, member by member, so one line can change one quota.
    """
    ours = _document(models, OURS)
    theirs = _located(_document(extra, USERS), extra.parent) if extra else {}
    named = {column: _over(ours[column], theirs.get(column, {})) for column in NAMED}
    our_rows = ours["models"]
    their_rows = _by_our_ids(our_rows, theirs.get("models", {}))
    try:
        rows = []
        for model_id in {**our_rows, **their_rows}:
            # Ours with its names resolved first, so that theirs is laid over what the names stand for.
            table = _over(_named(model_id, our_rows.get(model_id, {}), named), their_rows.get(model_id, {}))
            rows.append(_row(model_id, _named(model_id, _full(model_id, table, ours["defaults"]), named)))
        weights = {
            name: decode(f"weights {name}", table, WeightsRow)
            for name, table in _over(ours["weights"], theirs.get("weights", {})).items()
        }
    except ValueError as fault:
        # Ours alone is right, as its tests see to: what is wrong came with theirs.
        raise unreadable(extra or models, fault) from fault
    return Tables(tuple(rows), weights)


def _by_our_ids(ours: Mapping[str, Table], theirs: Mapping[str, Table]) -> dict[str, Table]:
    """The user's rows, those of ours under the id of our table, whichever of its ids the user wrote."""
    ids = {model_id: key for key, row in ours.items() for model_id in (key, *row["provisioned_ids"])}
    rows: dict[str, Table] = {}
    for model_id, table in theirs.items():
        key = ids.get(model_id, model_id)
        rows[key] = _over(rows.get(key, {}), table)
    return rows


def unreadable(path: Path, fault: Exception) -> OutcropError:
    """The refusal of a whole file."""
    return OutcropError(f"cannot read the catalogue {path}: {fault}")


def _document(path: Path, known: tuple[str, ...]) -> Table:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise unreadable(path, fault) from fault
    for name, tables in document.items():
        if name not in known:
            raise unreadable(path, ValueError(f"unknown table [{name}]; there are {', '.join(known)}"))
        if name in USERS and not (isinstance(tables, dict) and all(isinstance(one, dict) for one in tables.values())):
            raise unreadable(path, ValueError(f"[{name}] holds tables only: write [{name}.<name>]"))
    return document


def _located(document: Table, folder: Path) -> Table:
    """The user's tables with weights and programs of a relative path read from where the file stands."""
    models = {model_id: _located_row(table, folder) for model_id, table in document.get("models", {}).items()}
    weights = {
        name if name == "other" else _weights_name(name, folder): table
        for name, table in document.get("weights", {}).items()
    }
    return {**document, "models": models, "weights": weights}


def _located_row(table: Table, folder: Path) -> Table:
    found = dict(table)
    if "weights" in table:
        found["weights"] = _weights_name(table["weights"], folder)
    if isinstance(table.get("engine"), str):
        found["engine"] = located(table["engine"], folder)
    return found


def _weights_name(name: object, folder: Path) -> object:
    if not isinstance(name, str) or ":" in name:
        return name
    return str((folder.absolute() / Path(name).expanduser()).resolve())


def _over(below: object, above: object) -> Any:
    """One value laid over another: tables member by member, anything else replaces."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {name: _over(below.get(name), value) for name, value in above.items()}
    return deepcopy(above)


def _named(model_id: str, table: Table, named: Mapping[str, Mapping[str, Table]]) -> Table:
    """A row with the tables themselves where it has their names."""
    ways = table.get("customizations")
    if not isinstance(ways, dict):
        return table
    return {**table, "customizations": {kind: _resolved(model_id, kind, way, named) for kind, way in ways.items()}}


def _resolved(model_id: str, kind: str, way: object, named: Mapping[str, Mapping[str, Table]]) -> object:
    if not isinstance(way, dict):
        return way
    found = dict(way)
    for column in NAMED:
        name = way.get(column)
        if isinstance(name, str):
            if name not in named[column]:
                place, known = f"model {model_id}: customizations.{kind}.{column}", ", ".join(named[column])
                raise ValueError(f"{place}: there is no [{column}.{name}]; there are {known}")
            found[column] = named[column][name]
    return found


def _full(model_id: str, table: Table, defaults: Table) -> Table:
    """A row with everything that it may leave out: one table with `weights` and `body` is a whole model."""
    long_id = table.get("long_id", model_id)
    full = {
        "id": model_id,
        "name": model_id,
        "provider": model_id.partition(".")[0],
        "long_id": long_id,
        "provisioned_ids": [long_id],
        **{column: defaults[column] for column in ("tokens_per_minute_per_unit", "converse", "inference")},
        "customizations": {kind: {} for kind in defaults["customizations"]},
        **table,
    }
    ways = full["customizations"]
    if isinstance(ways, dict):
        full["customizations"] = {kind: _full_way(kind, way, full.get("body"), defaults) for kind, way in ways.items()}
    return full


def _full_way(kind: str, way: object, body: object, defaults: Table) -> object:
    if not isinstance(way, dict):
        return way
    own_defaults = defaults["customizations"].get(kind, {})
    formats = {} if body not in defaults["format"] else {"format": defaults["format"][body]}
    return {**formats, **own_defaults, **way}


def _row(model_id: str, table: Table) -> FoundationModel:
    place = f"model {model_id}"
    decode(place, {**table, "customizations": {}}, FoundationModel)
    ways = table["customizations"]
    for kind, way in ways.items() if isinstance(ways, dict) else ():
        # Part by part before the whole: msgspec names no keys of tables, and a reader needs them.
        where = f"{place}: customizations.{kind}"
        rules = way.get("hyperparameters") if isinstance(way, dict) else None
        for name, rule in rules.items() if isinstance(rules, dict) else ():
            decode(f"{where}.hyperparameters.{name}", rule, Parameter)
        decode(where, way, CustomizationRow)
    row = decode(place, table, FoundationModel)
    if faults := list(_faults(row)):
        raise ValueError(f"{place}: {'; '.join(faults)}")
    return row


def _faults(row: FoundationModel) -> Iterator[str]:
    """What the types cannot say: ids that must agree, and defaults that must keep their own rules."""
    if row.long_id not in row.provisioned_ids:
        yield f"long_id {row.long_id} is not among provisioned_ids"
    if not row.on_demand and row.id not in row.provisioned_ids:
        yield "the id can be invoked neither on demand nor provisioned"
    if row.engine:
        try:
            words(row.engine)
        except ValueError as no_command:
            yield f"engine: {no_command}"
    for kind, way in row.customizations.items():
        for fault in _way_faults(kind, way):
            yield f"customizations.{kind}{fault}"


def _is_rate(rule: Parameter) -> bool:
    """Whether a hyperparameter's default can be what rates are read relative to."""
    return refuse_default("rate", rule) is None and is_number(rule, rule.default) and float(rule.default or 0) > 0


def _way_faults(kind: str, way: CustomizationRow) -> Iterator[str]:
    if (way.format == "text") != (kind == "CONTINUED_PRE_TRAINING"):
        yield f": format {way.format} does not go with it; text is continued pre-training's, and it has no other"
    batches = [quota.up_to_batch or 2**63 for quota in way.quotas.tokens]
    if batches != sorted(set(batches)):
        yield ".quotas.tokens: up_to_batch must ascend, and only the last may be without one"
    if "epochCount" not in way.hyperparameters:
        yield ".hyperparameters: there is no epochCount"
    if way.rate not in way.hyperparameters:
        yield f": rate names {way.rate}, which is no hyperparameter of it"
    elif not _is_rate(way.hyperparameters[way.rate]):
        yield f".hyperparameters.{way.rate}: needs a default above 0, as rates are read relative to it"
    for name, rule in way.hyperparameters.items():
        if name in own():
            yield f".hyperparameters.{name}: the name is taken by our own hyperparameters"
        elif name not in MEANT:
            yield f".hyperparameters.{name}: nothing here would act on it; there are {', '.join(MEANT)}"
        if reason := refuse_default(name, rule):
            yield f".hyperparameters.{name}: {reason}"
