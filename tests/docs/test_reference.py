"""The pages of docs/reference are those that the catalogue and the settings make now, and their examples work."""

import re
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from docs.models_page import FILLED, MEANING
from docs.reference import FOLDER, PAGES, page
from outcrop.catalog.catalog import Catalog
from outcrop.catalog.hyperparameters import MEANT, OURS
from outcrop.catalog.rows import WeightsRow

CATALOG = Catalog.load()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_catalogue_says_now(name: str) -> None:
    assert page(name, CATALOG) == (FOLDER / name).read_text("utf-8"), "run `make docs`"


def test_every_hyperparameter_has_its_meaning() -> None:
    assert set(MEANING) == {*MEANT, *OURS}


def test_every_id_and_name_is_on_the_page() -> None:
    text = (FOLDER / "models.md").read_text("utf-8")
    for row in CATALOG.rows:
        assert f"\n## {row.name}\n" in text
        for model_id in row.ids:
            assert f"`{model_id}`" in text


def test_links_within_the_page_lead_to_headings() -> None:
    text = (FOLDER / "models.md").read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    wanted = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert wanted
    assert wanted <= headings


def test_the_pages_own_catalogue_works(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (FOLDER / "models.md").read_text("utf-8"), re.DOTALL)
    path = tmp_path / "my-models.toml"
    path.write_text(example, "utf-8")
    catalog = Catalog.load(path)
    support, legal = (catalog.find(f"my.{name}-v1") for name in ("support", "legal"))
    assert support is not None
    assert legal is not None
    assert support.customizations["FINE_TUNING"].format == "messages"
    assert catalog.limits(legal, 1).reserved == ("<secret>",)
    express = catalog.find("amazon.titan-text-express-v1")
    assert express is not None
    assert catalog.limits(express, 1).max_sum_records == 10_000


def test_what_a_row_has_where_it_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "my-models.toml"
    path.write_text('[models."my.model-v1"]\nweights = "/w"\nbody = "nova"\n', "utf-8")
    row = Catalog.load(path).find("my.model-v1")
    assert row is not None
    assert (row.long_id, row.name, row.provider, row.provisioned_ids) == (row.id, row.id, "my", (row.id,))
    assert FILLED["inference"] == f"`max_tokens = {row.inference.max_tokens}`"
    assert FILLED["tokens_per_minute_per_unit"] == f"`{row.tokens_per_minute_per_unit:_}`"
    assert FILLED["converse"] == ", ".join(f"`{feature}`" for feature in sorted(row.converse))
    assert set(row.customizations) == {"FINE_TUNING", "CONTINUED_PRE_TRAINING"}


def test_what_must_be_given_and_nothing_else_must_be() -> None:
    text = (FOLDER / "models.md").read_text("utf-8")
    given = msgspec.to_builtins(CATALOG.weights["bundled:text"])
    for column in given:
        [line] = re.findall(rf"^\| `{column}` \|.*$", text, re.MULTILINE)
        left = {name: value for name, value in given.items() if name != column}
        with pytest.raises(msgspec.ValidationError) if "must be given" in line else nullcontext():
            msgspec.convert(left, WeightsRow)
