"""hf: names, with the hub's own client against a small real hub: downloads, pins, refusals, no network."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.migrations import opened
from outcrop.store.models import ModelStore
from tests.weights.hub_server import Hub, Repo, files_of

LITE = "amazon.titan-text-lite-v1"
Outcrop = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def hub(bundled: Path) -> Iterator[Hub]:
    hub = Hub().open()
    files = files_of(bundled)
    code = {"modeling_evil.py": b"raise SystemExit('run')", "pytorch_model.bin": b"\x80\x04pickle"}
    hub.repos["house/small"] = Repo({**files, **code, "original/consolidated.safetensors": b"x" * 2000})
    hub.repos["house/gated"] = Repo(files, gated=True)
    hub.repos["house/private"] = Repo(files, private=True)
    hub.repos["house/pickled"] = Repo({"config.json": files["config.json"], "pytorch_model.bin": b"\x80\x04"})
    hub.known |= {"hf_reader", "hf_stranger"}
    hub.readers.add("hf_reader")
    yield hub
    hub.close()


def chosen(data: DataDirectory) -> str | None:
    """What is kept for Titan Lite."""
    database = opened(f"sqlite:///{data.database}")
    try:
        return ModelStore(database).weights_of(f"{LITE}:0:4k")
    finally:
        database.close()


def use(outcrop: Outcrop, hub: Hub, data: DataDirectory, name: str, **more: str) -> "CompletedProcess[str]":
    return outcrop("models", "use", LITE, name, "--data", str(data.root), **{"HF_ENDPOINT": hub.url, **more})


def test_a_repository_is_fetched_pinned_and_runs(
    outcrop: Outcrop, fetched: Outcrop, hub: Hub, data: DataDirectory
) -> None:
    done = use(outcrop, hub, data, "hf:house/small@v1")
    assert done.returncode == 0, done.stderr
    commit = hub.repos["house/small"].commit
    name = f"hf:house/small@{commit}"
    assert f"{LITE}:0:4k now runs {name}" in done.stdout
    assert chosen(data) == name
    folder = Catalog.load(fetched=data.weights).weights_folder(name)
    assert folder.parent == data.weights
    got = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"} <= got
    assert not any(name.endswith((".py", ".bin")) or "consolidated" in name for name in got)
    files = [line for line in hub.asked if line.startswith("GET /house/small/resolve/")]
    assert not any(part in line for line in files for part in (".py", ".bin", "original"))
    assert (folder / "model.safetensors").resolve().is_relative_to(data.root.parent / "hf" / "hub")

    # A pinned name asks nobody; a branch asks which commit it is and fetches nothing again.
    hub.asked.clear()
    assert fetched(name, HF_ENDPOINT=hub.url).stdout.strip() == name
    assert hub.asked == []
    assert fetched("hf:house/small", HF_ENDPOINT=hub.url).stdout.strip() == name
    assert not any(line.startswith("GET /house/small/resolve/") for line in hub.asked)
    listed = json.loads(outcrop("models", "list", "--json", "--data", str(data.root)).stdout)
    row = next(row for row in listed if row["id"] == f"{LITE}:0:4k")
    assert (row["weights"], row["stands_in"], row["missing"]) == (name, False, None)
    assert row["parameters"] > 5_000_000


def test_without_a_network_the_cache_is_enough(fetched: Outcrop, hub: Hub) -> None:
    away = fetched("hf:house/small", HF_ENDPOINT="http://127.0.0.1:9")
    assert away.returncode == 1
    assert "weights hf:house/small: the hub at http://127.0.0.1:9 cannot be reached" in away.stderr
    assert "copy the model's folder here and give its path" in away.stderr
    assert fetched("hf:house/small", HF_ENDPOINT=hub.url).returncode == 0
    hub.broken = 503
    name = f"hf:house/small@{hub.repos['house/small'].commit}"
    assert fetched("hf:house/small", HF_ENDPOINT=hub.url).stdout.strip() == name
    offline = fetched("hf:house/small", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert offline.stdout.strip() == name, offline.stderr
    assert "hf:house/gated" in fetched("hf:house/gated", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1").stderr


@pytest.mark.parametrize(
    ("name", "token", "says"),
    [
        ("hf:house/gated", "", ["gated", "/house/gated", "hf auth login", "HF_TOKEN"]),
        ("hf:house/gated", "hf_stranger", ["gated", "of HF_TOKEN", "has no access yet", "wait for the yes"]),
        ("hf:house/private", "", ["no model house/private", "hf auth login"]),
        ("hf:house/private", "hf_stranger", ["no model house/private", "of HF_TOKEN"]),
        ("hf:house/none", "", ["no model house/none"]),
        ("hf:house/small", "hf_wrong", ["refuses the token (of HF_TOKEN)", "/settings/tokens"]),
        ("hf:house/small@v9", "", ["no revision 'v9'", "/house/small/tree/main"]),
        ("hf:house/pickled", "", ["no safetensors files", "pickle files, which can run code"]),
        ("https://huggingface.co/house/small", "", ["for that page: hf:house/small"]),
        ("hf:house/../small", "", ["is spelled hf:org/repo"]),
    ],
)
def test_refusals_name_the_way_out(  # noqa: PLR0917
    outcrop: Outcrop, hub: Hub, data: DataDirectory, name: str, token: str, says: list[str]
) -> None:
    done = use(outcrop, hub, data, name, **({"HF_TOKEN": token} if token else {}))
    assert done.returncode == 1, done.stdout
    said = " ".join(done.stderr.split())
    assert "Traceback" not in said
    assert f"weights {name}" in said or f"weights {name!r}" in said
    for part in says:
        assert part in said
    assert not token or token not in said.replace("HF_TOKEN", "")
    assert chosen(data) is None
    assert list(data.weights.iterdir()) == []


def test_a_reader_of_a_gated_repository_gets_it(fetched: Outcrop, hub: Hub) -> None:
    done = fetched("hf:house/gated", HF_ENDPOINT=hub.url, HF_TOKEN="hf_reader")
    assert done.returncode == 0, done.stderr


def test_a_broken_download_goes_on_at_the_next_try(fetched: Outcrop, hub: Hub, data: DataDirectory) -> None:
    hub.cut = "model.safetensors"
    done = fetched("hf:house/small", HF_ENDPOINT=hub.url)
    if done.returncode:  # the hub's client may have tried again by itself
        assert "Traceback" not in done.stderr, done.stderr
        assert list(data.weights.iterdir()) == []
        done = fetched("hf:house/small", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert hub.cut is None
    folder = Catalog.load(fetched=data.weights).weights_folder(done.stdout.strip())
    assert (folder / "model.safetensors").read_bytes() == hub.repos["house/small"].files["model.safetensors"]


def test_too_large_weights_are_refused_before_they_are_fetched(
    outcrop: Outcrop, hub: Hub, data: DataDirectory, bundled: Path
) -> None:
    class Vast(bytes):
        """A file that says it has two terabytes."""

        def __len__(self) -> int:
            return 2 * 10**12

    files = files_of(bundled)
    hub.repos["house/vast"] = Repo({**files, "model.safetensors": Vast(files["model.safetensors"])})
    done = use(outcrop, hub, data, "hf:house/vast")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "need at least 2000.3 GB of memory to be served, and this machine has" in said
    assert not any("model.safetensors" in line for line in hub.asked)


def test_a_cache_that_was_emptied_is_told(fetched: Outcrop, hub: Hub, data: DataDirectory) -> None:
    name = fetched("hf:house/small", HF_ENDPOINT=hub.url).stdout.strip()
    for path in (data.root.parent / "hf" / "hub").rglob("blobs/*"):
        path.unlink()
    with pytest.raises(OutcropError, match=rf"not on this machine.*models use ID {name}` fetches them"):
        Catalog.load(fetched=data.weights).weights_folder(name)
    again = fetched(name, HF_ENDPOINT=hub.url)
    assert again.stdout.strip() == name, again.stderr
    assert Catalog.load(fetched=data.weights).weights_folder(name).is_dir()
