"""The catalogue as it is shipped, and what a broken one says."""

from pathlib import Path

import pytest

from outcrop.catalog.catalog import MODELS, Catalog, effective_weights
from outcrop.errors import OutcropError
from outcrop.store.database import Database
from outcrop.store.models import ModelStore

EXPRESS = "amazon.titan-text-express-v1"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


@pytest.mark.parametrize(
    "identifier",
    [
        "amazon.titan-text-express",
        "amazon.titan-text-express-v1:0:32k",
        "",
        "arn:",
        "arn:aws:bedrock",
        f"arn:aws:bedrock:us-east-1:123456789012:foundation-model/{EXPRESS}",
        f"arn:aws:s3:us-east-1::foundation-model/{EXPRESS}",
        f"arn:aws:bedrock:us-east-1::custom-model/{EXPRESS}",
    ],
)
def test_other_identifiers_find_nothing(catalog: Catalog, identifier: str) -> None:
    assert catalog.find(identifier) is None


def test_learning_rates_land_on_what_suits_the_weights(catalog: Catalog) -> None:
    row, premier = catalog.find(EXPRESS), catalog.find("amazon.titan-text-premier-v1:0")
    assert row is not None
    assert premier is not None
    bundled, other = catalog.weights["bundled:text"], catalog.weights["other"]
    assert catalog.effective_learning_rate(row, "lora", 1e-5) == (bundled.learning_rate["lora"], None)
    assert catalog.effective_learning_rate(row, "full", 1e-5) == (bundled.learning_rate["full"], None)
    # A tenth of the default is a tenth of the rate, and every model's own default lands at the same place.
    tenth, warning = catalog.effective_learning_rate(row, "lora", 1e-6)
    assert tenth == pytest.approx(bundled.learning_rate["lora"] / 10)
    assert warning is None
    assert catalog.effective_learning_rate(premier, "lora", 1e-6)[0] == bundled.learning_rate["lora"]
    assert catalog.effective_learning_rate(row, "lora", 1e-5, "/models/llama")[0] == other.learning_rate["lora"]


def test_a_rate_above_the_ceiling_is_capped_and_said(catalog: Catalog) -> None:
    row = catalog.find(EXPRESS)
    assert row is not None
    rate, warning = catalog.effective_learning_rate(row, "lora", 5e-4)
    assert rate == catalog.weights["bundled:text"].learning_rate_ceiling["lora"]
    assert warning is not None
    for part in ("learningRate 0.0005", "lora", "bundled:text in runs of 600 steps", f"{rate:g}"):
        assert part in warning
    _, elsewhere = catalog.effective_learning_rate(row, "lora", 5e-4, "/models/llama")
    assert elsewhere is not None
    assert "for lora on /models/llama, where" in elsewhere
    assert catalog.effective_learning_rate(row, "lora", 0.0) == (0.0, None)


def test_chosen_weights_win_over_the_rows(catalog: Catalog) -> None:
    database = Database("sqlite://")
    database.create()
    choices = ModelStore(database)
    row = catalog.find(EXPRESS)
    assert row is not None
    assert effective_weights(row, choices) == "bundled:text"
    choices.use_weights(row.long_id, "/models/llama")
    assert effective_weights(row, choices) == "/models/llama"
    choices.use_weights(row.long_id, None)
    assert effective_weights(row, choices) == "bundled:text"


def test_weights_folders(catalog: Catalog, tmp_path: Path) -> None:
    assert (catalog.weights_folder("bundled:text") / "config.json").is_file()
    with pytest.raises(OutcropError, match=r"bundled:nothing.*config\.json"):
        catalog.weights_folder("bundled:nothing")
    with pytest.raises(OutcropError, match="absolute"):
        catalog.weights_folder("models/llama")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OutcropError, match=r"tokenizer\.json.*safetensors"):
        catalog.weights_folder(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    assert catalog.weights_folder(str(tmp_path)) == tmp_path


def test_bundled_names_stay_inside_the_bases(catalog: Catalog) -> None:
    for name in ("bundled:../bases/text", f"bundled:{catalog.bases / 'text'}", "bundled:", "text"):
        with pytest.raises(OutcropError, match="bundled:<name>"):
            catalog.weights_folder(name)


def broken(tmp_path: Path, old: str, new: str) -> str:
    """The message for the shipped catalogue with one change."""
    text = MODELS.read_text("utf-8")
    assert old in text
    path = tmp_path / "models.toml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(OutcropError) as caught:
        Catalog.load(models=path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("max_tokens = 8192 }\nprices", 'max_tokens = "8192" }\nprices', (EXPRESS, "inference.max_tokens")),
        ("max_tokens = 8192 }\nprices", "max_tokens = 0 }\nprices", (EXPRESS, "inference.max_tokens", ">= 1")),
        ('body = "titan-text"', 'bodies = "titan-text"', (EXPRESS, "`bodies`", "tokens_per_minute_per_unit", "body")),
        ('body = "titan-text"', 'body = "titan"', (EXPRESS, "body", "'titan'", "claude-messages", "titan-text")),
        ('weights = "bundled:text"\n', "", (EXPRESS, "weights")),
        ("unit_hour = 20.50", "unit_hour = -1", (EXPRESS, "prices.unit_hour")),
        ('default = "5" }\nbatchSize', 'default = "50" }\nbatchSize', (EXPRESS, "epochCount", "between 1 and 10")),
        ('default = "1.0E-5"', 'default = "small"', (EXPRESS, "FINE_TUNING.hyperparameters.learningRate", "'small'")),
        (', default = "1.0E-5"', "", (EXPRESS, "learningRate", "needs a default above 0")),
        ("learningRateWarmupSteps = {", "loraRank = {", (EXPRESS, "loraRank", "our own")),
        ("learningRateWarmupSteps = {", "warmupSteps = {", (EXPRESS, "warmupSteps", "there are", "evalPercentage")),
        ("epochCount = {", "learningRateMultiplier = {", (EXPRESS, "there is no epochCount")),
        ("learningRate = {", "learningRateMultiplier = {", (EXPRESS, "FINE_TUNING", "rate names learningRate")),
        (
            "max = 10, default",
            "most = 10, default",
            (EXPRESS, "FINE_TUNING.hyperparameters.epochCount", "`most`", "words"),
        ),
        ('type = "int"', 'type = "integer"', (EXPRESS, "epochCount: type", "'integer'", "float, int, word")),
        (
            '\nFINE_TUNING = { format = "prompt',
            '\nFINE_TUNE = { format = "prompt',
            (EXPRESS, "FINE_TUNE", "FINE_TUNING"),
        ),
        (
            'CONTINUED_PRE_TRAINING = { format = "text", hyperparameters = "titan-text"',
            'CONTINUED_PRE_TRAINING = { format = "messages", hyperparameters = "titan-text"',
            (EXPRESS, "CONTINUED_PRE_TRAINING", "format messages", "text"),
        ),
        ('quotas = "titan-express" }', 'quotas = "titan" }', (EXPRESS, "[quotas.titan]", "titan-express, ", "nova")),
        (
            'hyperparameters = "titan-text", quotas = "titan-express" }',
            'hyperparameters = "titan", quotas = "titan-express" }',
            (EXPRESS, "customizations.FINE_TUNING.hyperparameters", "[hyperparameters.titan]", "titan-text, "),
        ),
        (
            'long_id = "amazon.titan-text-lite-v1:0:4k"',
            'long_id = "amazon.x"',
            ("amazon.titan-text-lite-v1", "amazon.x"),
        ),
        ('long_id = "amazon.titan-text-lite-v1:0:4k"', 'long_id = "Titan Lite"', ("titan-text-lite-v1", "long_id")),
        (
            'provisioned_ids = ["amazon.titan-text-lite-v1:0:4k"]',
            'provisioned_ids = ["amazon.titan-text-lite-v1:0:4k", "amazon.titan-text-express-v1"]',
            ("amazon.titan-text-lite-v1", "taken by amazon.titan-text-express-v1"),
        ),
        ("up_to_batch = 4, total", "up_to_batch = 1, total", (EXPRESS, "quotas.tokens", "up_to_batch")),
        ("up_to_batch = 1, total", "total", (EXPRESS, "quotas.tokens", "up_to_batch")),
        ("[weights.other]", "[weights.another]", ("[weights.other]",)),
        ("[weights.other]", "[wieghts.other]", ("wieghts", "weights")),
        ("learning_rate = { lora = 3e-3", "learning_rate = { lora = 0", ("bundled:text", "learning_rate")),
        ("[weights.other]", "[weights.other", ("line",)),
    ],
)
def test_a_broken_catalogue_names_row_and_field(tmp_path: Path, old: str, new: str, parts: tuple[str, ...]) -> None:
    message = broken(tmp_path, old, new)
    for part in parts:
        assert part in message


def test_a_missing_catalogue_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutcropError, match="none"):
        Catalog.load(models=tmp_path / "none.toml")


@pytest.mark.parametrize(
    "start", ["tokens_per_minute_per_unit", "tokens = [{ total = 32_768", "inference = { max_tokens = 10_000"]
)
def test_what_is_not_verified_says_so(start: str) -> None:
    lines = [line for line in MODELS.read_text("utf-8").splitlines() if line.startswith(start)]
    assert lines
    for line in lines:
        assert "unverified" in line, line


def test_regions_of_retired_rows_are_not_verified() -> None:
    before, rows = MODELS.read_text("utf-8").split("[models.", 1)
    assert "regions" not in before
    for row in rows.split("\nlong_id = ")[1:]:
        retired = row.startswith(('"amazon.titan', '"cohere', '"meta.llama2'))
        (line,) = [line for line in row.splitlines() if line.startswith("regions")]
        assert ("# unverified" in line) is retired, line
