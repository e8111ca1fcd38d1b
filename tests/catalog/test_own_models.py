"""A catalogue of the user's own: one table is a model, one line changes a quota, what is wrong is told by its place."""

from pathlib import Path

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import OutcropError, ValidationException

EXPRESS = "amazon.titan-text-express-v1"
SHORTEST = """
[models."my.model-v1"]
weights = "/models/my-model"
body = "nova"
"""


def load(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "models.toml"
    path.write_text(text, "utf-8")
    return Catalog.load(path)


def row(catalog: Catalog, model_id: str) -> FoundationModel:
    found = catalog.find(model_id)
    assert found is not None
    return found


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(OutcropError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert str(tmp_path / "models.toml") in message
    return message


def test_two_lines_are_a_model(tmp_path: Path) -> None:
    catalog = load(tmp_path, SHORTEST)
    mine = row(catalog, "my.model-v1")
    assert mine is catalog.rows[-1]
    assert len(catalog.rows) == len(Catalog.load().rows) + 1
    assert row(catalog, "arn:aws:bedrock:us-east-1::foundation-model/my.model-v1") is mine
    assert (mine.name, mine.provider, mine.long_id) == ("my.model-v1", "my", "my.model-v1")
    assert mine.inference_types("my.model-v1") == ("ON_DEMAND", "PROVISIONED")
    assert mine.customizations_of("my.model-v1") == ("FINE_TUNING", "CONTINUED_PRE_TRAINING")
    assert mine.customizations["FINE_TUNING"].format == "conversation"
    assert mine.customizations["CONTINUED_PRE_TRAINING"].format == "text"
    assert mine.converse == {"chat", "stream", "system"}
    assert mine.prices.training_per_1k_tokens is None
    limits = catalog.limits(mine, 8)
    assert (limits.max_total_tokens, limits.max_records, limits.advised_records) == (None, None, None)
    assert catalog.effective_learning_rate(mine, "lora", 1e-5) == (2e-4, None)


@pytest.mark.parametrize(
    ("body", "format"),
    [
        ("titan-text", "prompt-completion"),
        ("cohere-command", "prompt-completion"),
        ("llama", "prompt-completion"),
        ("claude-messages", "messages"),
        ("nova", "conversation"),
    ],
)
def test_the_format_follows_the_body(tmp_path: Path, body: str, format: str) -> None:
    mine = row(load(tmp_path, SHORTEST.replace("nova", body)), "my.model-v1")
    assert mine.customizations["FINE_TUNING"].format == format


def test_every_column_can_be_given(tmp_path: Path) -> None:
    catalog = load(
        tmp_path,
        """
        [hyperparameters.mine]
        epochCount = { type = "int", min = 1, max = 7, default = "4", words = ["auto"], auto = "6" }
        learningRateMultiplier = { type = "float", min = 0.5, max = 4, default = "1" }

        [quotas.mine]
        tokens = [{ up_to_batch = 2, input = 10 }, { total = 30 }]
        characters_per_token = 4
        max_sum_records = 50
        reserved = ["<secret>"]

        [models."my.model-v1:0"]
        name = "Mine"
        provider = "Us"
        weights = "/models/mine"
        body = "llama"
        long_id = "my.model-v1:0:8k"
        inference = { max_tokens = 100 }
        tokens_per_minute_per_unit = 1000
        converse = []

        [models."my.model-v1:0".customizations.FINE_TUNING]
        format = "messages"
        hyperparameters = "mine"
        quotas = "mine"
        rate = "learningRateMultiplier"

        [weights."/models/mine"]
        learning_rate = { lora = 1e-3, full = 1e-5 }
        learning_rate_ceiling = { lora = 3e-3, full = 1e-4 }
        """,
    )
    mine = row(catalog, "my.model-v1:0:8k")
    assert (mine.id, mine.name, mine.provider, mine.inference.max_tokens) == ("my.model-v1:0", "Mine", "Us", 100)
    assert mine.inference_types("my.model-v1:0") == ("ON_DEMAND",)
    assert mine.customizations_of("my.model-v1:0:8k") == ("FINE_TUNING",)
    assert mine.converse == frozenset()
    assert catalog.hyperparameters(mine, "FINE_TUNING", {}) == {"epochCount": "4", "learningRateMultiplier": "1"}
    small, large = catalog.limits(mine, 2), catalog.limits(mine, 3)
    assert (small.max_input_tokens, small.max_total_tokens) == (10, None)
    assert (large.max_input_tokens, large.max_total_tokens) == (None, 30)
    assert (small.characters_per_token, small.max_sum_records, small.reserved) == (4, 50, ("<secret>",))
    assert catalog.effective_learning_rate(mine, "lora", 2.0) == (2e-3, None)
    rate, warning = catalog.effective_learning_rate(mine, "lora", 4.0)
    assert rate == 3e-3
    assert warning is not None
    assert "learningRateMultiplier 4" in warning


def test_auto_is_kept_as_typed_and_read_as_its_number(tmp_path: Path) -> None:
    catalog = load(tmp_path, SHORTEST)
    mine = row(catalog, "my.model-v1")
    echoed = catalog.hyperparameters(mine, "FINE_TUNING", {"epochCount": "Auto", "learningRate": "auto", "seed": "1"})
    assert (echoed["epochCount"], echoed["learningRate"], echoed["batchSize"]) == ("Auto", "auto", "8")
    plain = catalog.plain_hyperparameters(mine, "FINE_TUNING", echoed)
    assert plain == {
        "epochCount": "3",
        "batchSize": "8",
        "learningRate": "1.0E-5",
        "learningRateWarmupSteps": "5",
        "seed": "1",
    }
    with pytest.raises(ValidationException, match=r"between 1 and 100, or one of \[auto\]"):
        catalog.hyperparameters(mine, "FINE_TUNING", {"epochCount": "some"})


def test_an_auto_of_its_own(tmp_path: Path) -> None:
    rule = 'epochCount = { type = "int", min = 1, max = 7, default = "4", words = ["auto"], auto = "6" }'
    catalog = load(tmp_path, f'{SHORTEST}[models."my.model-v1".customizations.FINE_TUNING.hyperparameters]\n{rule}\n'
                             'learningRate = { type = "float", min = 0, max = 1, default = "1.0E-4" }')  # fmt: skip
    mine = row(catalog, "my.model-v1")
    assert catalog.plain_hyperparameters(mine, "FINE_TUNING", {"epochCount": "AUTO"}) == {"epochCount": "6"}
    assert set(catalog.hyperparameters(mine, "FINE_TUNING", {})) == {"epochCount", "learningRate"}


def test_one_line_changes_one_quota_of_ours(tmp_path: Path) -> None:
    catalog = load(
        tmp_path,
        f"""
        [models."{EXPRESS}".customizations.FINE_TUNING.quotas]
        max_sum_records = 10_000
        """,
    )
    before = Catalog.load()
    fine, continued = (
        catalog.limits(row(catalog, EXPRESS), 1, kind) for kind in ("FINE_TUNING", "CONTINUED_PRE_TRAINING")
    )
    assert fine.max_sum_records == 10_000
    assert fine.max_total_tokens == 4096
    assert continued.max_sum_records is None
    assert [one.id for one in catalog.rows] == [one.id for one in before.rows]
    assert catalog.rows[1:] == before.rows[1:]


def test_a_row_of_ours_is_found_by_any_of_its_ids(tmp_path: Path) -> None:
    text = f'[models."{EXPRESS}:0:8k"]\nname = "Mine"\n[models."{EXPRESS}"]\nprovider = "Me"\n'
    catalog = load(tmp_path, text)
    assert len(catalog.rows) == len(Catalog.load().rows)
    assert (row(catalog, EXPRESS).name, row(catalog, EXPRESS).provider) == ("Mine", "Me")


def test_a_named_table_of_ours_can_be_changed_for_all_its_rows(tmp_path: Path) -> None:
    catalog = load(tmp_path, "[hyperparameters.llama]\nbatchSize = { max = 16 }\n")
    for one in catalog.rows:
        if one.body == "llama":
            rule = one.customizations["FINE_TUNING"].hyperparameters["batchSize"]
            assert (rule.min, rule.max, rule.default) == (1, 16, "1")


def test_a_row_of_ours_can_take_another_table(tmp_path: Path) -> None:
    catalog = load(
        tmp_path, f'[models."{EXPRESS}".customizations.FINE_TUNING]\nhyperparameters = "nova"\nquotas = "documents"\n'
    )
    one = row(catalog, EXPRESS)
    assert one.customizations["FINE_TUNING"].hyperparameters["epochCount"].max == 5
    assert catalog.limits(one, 1).max_total_tokens is None
    assert one.customizations["CONTINUED_PRE_TRAINING"].hyperparameters["epochCount"].max == 10


def test_other_weights_and_rates(tmp_path: Path) -> None:
    catalog = load(
        tmp_path,
        f"""
        [models."{EXPRESS}"]
        weights = "bundled:text"
        [models."my.model-v1"]
        weights = "weights/mine"
        body = "nova"
        [models."my.home-v1"]
        weights = "~/mine"
        body = "nova"
        [models."my.hub-v1"]
        weights = "hf:org/repo"
        body = "nova"
        [weights.other]
        learning_rate = {{ lora = 1e-3 }}
        [weights."weights/mine"]
        learning_rate = {{ lora = 7e-4, full = 1e-5 }}
        learning_rate_ceiling = {{ lora = 2e-3, full = 1e-4 }}
        """,
    )
    mine = row(catalog, "my.model-v1")
    assert mine.weights == str(tmp_path / "weights" / "mine")
    assert catalog.effective_learning_rate(mine, "lora", 1e-5)[0] == 7e-4
    assert row(catalog, "my.home-v1").weights == str(Path("~/mine").expanduser())
    assert row(catalog, "my.hub-v1").weights == "hf:org/repo"
    assert catalog.weights["other"].learning_rate == {"lora": 1e-3, "full": 1e-5}
    assert catalog.effective_learning_rate(mine, "full", 1e-5, "/else")[0] == 1e-5


@pytest.mark.parametrize(
    ("named", "runs"),
    [
        ("hf:org/repo", "hf:org/repo@0123456789012345678901234567890123456789"),
        ("s3://bucket/some/prefix", "s3://bucket/some/prefix#0123456789abcdef"),
        ("/models/a@b#0123456789abcdef", "/models/a@b#0123456789abcdef"),
    ],
)
def test_rates_of_fetched_weights_hold_for_every_revision(tmp_path: Path, named: str, runs: str) -> None:
    rates = "learning_rate = { lora = 7e-4, full = 1e-5 }\nlearning_rate_ceiling = { lora = 2e-3, full = 1e-4 }\n"
    catalog = load(tmp_path, f'{SHORTEST}[weights."{named}"]\n{rates}')
    for name in (named, runs):
        assert catalog.effective_learning_rate(row(catalog, "my.model-v1"), "lora", 1e-5, name) == (7e-4, None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[models."my.model-v1"]\nbody = "nova"\n', ("my.model-v1", "weights")),
        ('[models."my.model-v1"]\nweights = "/w"\n', ("my.model-v1", "body")),
        (SHORTEST.replace("nova", "gpt"), ("my.model-v1: body", "'gpt'", "titan-text", "claude-messages", "nova")),
        (SHORTEST + 'nmae = "x"\n', ("my.model-v1", "`nmae`", "there are", "name", "weights", "converse")),
        (SHORTEST + 'name = ""\n', ("my.model-v1: name", "length >= 1")),
        (SHORTEST + "name = 3\n", ("my.model-v1: name", "Expected a string, got an integer")),
        (SHORTEST + 'converse = ["chat", "video"]\n', ("my.model-v1: converse[1]", "'video'", "vision", "tools")),
        (SHORTEST + "inference = 5\n", ("my.model-v1: inference", "Expected a table")),
        (SHORTEST + "inference = { tokens = 5 }\n", ("my.model-v1: inference", "max_tokens")),
        (SHORTEST.replace("my.model-v1", "My Model"), ("My Model: id", "matching regex")),
        (SHORTEST + 'long_id = "mine"\n', ("my.model-v1: long_id", "matching regex")),
        (SHORTEST + "customizations = 3\n", ("my.model-v1: customizations", "Expected a table")),
        (SHORTEST + "customizations = { FINE_TUNING = 3 }\n", ("customizations.FINE_TUNING", "Expected a table")),
        (SHORTEST + "customizations = { TUNING = {} }\n", ("customizations.TUNING", "hyperparameters")),
        (
            SHORTEST + 'customizations = { FINE_TUNING = { format = "json" } }\n',
            ("customizations.FINE_TUNING: format", "'json'", "prompt-completion", "conversation"),
        ),
        (
            SHORTEST + 'customizations = { FINE_TUNING = { quotas = "mine" } }\n',
            ("customizations.FINE_TUNING.quotas", "[quotas.mine]", "documents"),
        ),
        (
            SHORTEST + "customizations = { FINE_TUNING = { quotas = { max_recods = 5 } } }\n",
            ("customizations.FINE_TUNING: quotas", "`max_recods`", "max_records"),
        ),
        (
            SHORTEST + "customizations = { FINE_TUNING = { quotas = { tokens = [{ batch = 5 }] } } }\n",
            ("customizations.FINE_TUNING: quotas.tokens[0]", "`batch`", "up_to_batch"),
        ),
        ("[model.x]\n", ("[model]", "models, hyperparameters, quotas, weights")),
        ("[defaults]\nconverse = []\n", ("[defaults]", "models")),
        ("models = 3\n", ("[models.<name>]",)),
        ("[models]\nmine = 3\n", ("[models.<name>]",)),
        ("[models.x\n", ("line 1",)),
        (SHORTEST + f'provisioned_ids = ["my.model-v1", "{EXPRESS}"]\n', ("my.model-v1", f"taken by {EXPRESS}")),
        ('[hyperparameters.llama]\nbatchSize = { max = 0 }\n', ("llama", "batchSize", "min and a max")),
        ('[hyperparameters.llama]\nlearningRate = { min = 0, default = "0.0" }\n', ("learningRate", "default above 0")),
        ('[hyperparameters.llama]\nlearningRate = { default = "auto", words = ["auto"] }\n', ("default above 0",)),
        ('[hyperparameters.llama]\nbatchSize = { default = "Auto", words = ["auto"] }\n', ("which number",)),
        ('[hyperparameters.llama]\nbatchSize = { words = ["auto"], auto = "2" }\n', ("batchSize", "between 1 and 1")),
        ("[weights.mine]\nlearning_rate = {}\n", ("mine", "learning_rate_ceiling")),
        ('[weights.mine]\nlearning_rates = { lora = 1 }\n', ("mine", "`learning_rates`", "learning_rate_ceiling")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_file_row_and_field(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    message = refusal(tmp_path, text)
    for part in parts:
        assert part in message, message


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutcropError, match=r"none\.toml"):
        Catalog.load(tmp_path / "none.toml")
    with pytest.raises(OutcropError, match="cannot read the catalogue"):
        Catalog.load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(OutcropError, match=r"latin\.toml"):
        Catalog.load(tmp_path / "latin.toml")
