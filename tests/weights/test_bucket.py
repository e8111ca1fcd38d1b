"""s3:// names against the real embedded S3: fetched whole, pinned, taken up again, refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from outcrop.errors import OutcropError
from outcrop.objects.client import ObjectClient
from outcrop.sources import bucket
from outcrop.sources.fetch import fetch
from outcrop.sources.names import BucketPrefix, parse
from outcrop.sources.shelf import Shelf
from tests.api.s3.server import S3Server
from tests.power import PowerWatch


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """boto3 to a real server with S3 alone in it."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "data").start()
    made = server.client()
    yield made
    made.close()
    server.close()


class Store:
    """A bucket with one model under models/small/, and what is fetched from it."""

    def __init__(self, client: Any, source: Path, fetched: Path) -> None:
        self.s3, self.name, self.source = client, f"weights-{uuid4().hex[:12]}", source
        self.client = ObjectClient(client, patience=1.0)
        self.shelf = Shelf(Path("none"), fetched)
        self.seen: list[tuple[int, int]] = []
        client.create_bucket(Bucket=self.name)
        for path in source.iterdir():
            if path.is_file():
                client.upload_file(str(path), self.name, f"models/small/{path.name}")

    @property
    def uri(self) -> str:
        return f"s3://{self.name}/models/small"

    def fetch(self, name: str) -> tuple[str, Path]:
        self.seen.clear()
        got = fetch(parse(name), self.shelf, lambda done, total: self.seen.append((done, total)), lambda: self.client)
        return got.name, got.folder


@pytest.fixture
def store(client: Any, bundled: Path, tmp_path: Path) -> Store:
    return Store(client, bundled, tmp_path / "weights")


def test_a_prefix_is_fetched_whole_and_pinned(store: Store) -> None:
    store.s3.put_object(Bucket=store.name, Key="models/small/run.py", Body=b"print()")
    store.s3.put_object(Bucket=store.name, Key="models/smaller", Body=b"another")
    name, folder = store.fetch(store.uri + "/")
    assert name.startswith(store.uri + "#")
    for path in folder.iterdir():
        assert path.read_bytes() == (store.source / path.name).read_bytes()
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "run.py").exists()
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert store.seen[0] == (0, total)
    assert store.seen[-1] == (total, total)
    assert [done for done, _ in store.seen] == sorted(done for done, _ in store.seen)
    assert store.shelf.folder(name) == folder
    # A second time nothing comes over the wire; by the pinned name nobody is even asked.
    assert store.fetch(store.uri) == (name, folder)
    assert store.seen == []
    store.client = None  # type: ignore[assignment]
    assert store.fetch(name) == (name, folder)


def test_weights_are_on_the_disk_before_they_have_the_name_that_means_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = PowerWatch(monkeypatch)
    _, folder = store.fetch(store.uri)
    assert watch.unsafe(folder, f".{folder.name}.draft") == set()
    # A file that a broken fetch left is taken for whole by its size: so its bytes must be there before its name is.
    draft = folder.with_name(f".{folder.name}.draft")
    for path in folder.iterdir():
        named = watch.seen.index(("rename", draft / path.name))
        assert ("sync", draft / f".{path.name}.part") in watch.seen[:named]


def test_changed_objects_are_other_weights(store: Store) -> None:
    name, folder = store.fetch(store.uri)
    config = (store.source / "config.json").read_bytes() + b"\n"
    store.s3.put_object(Bucket=store.name, Key="models/small/config.json", Body=config)
    other, place = store.fetch(store.uri)
    assert other != name
    assert place != folder
    assert (place / "config.json").read_bytes() == config
    assert (folder / "config.json").read_bytes() != config
    lost = Shelf(Path("none"), folder.parent.parent / "other")
    with pytest.raises(OutcropError, match="are others by now"):
        fetch(parse(name), lost, lambda done, total: None, lambda: store.client)
    with pytest.raises(OutcropError, match=f"not on this machine.*models use ID {store.uri}` fetches"):
        lost.folder(name)


def test_what_was_fetched_is_not_fetched_again(store: Store) -> None:
    class Breaking(ObjectClient):
        """Goes away when it comes to the weights."""

        def read(self, uri: str) -> Iterator[bytes]:
            if uri.endswith("model.safetensors"):
                yield b"half"
                raise OutcropError("gone away")
            yield from super().read(uri)

    good = store.client
    store.client = Breaking(store.s3)
    with pytest.raises(OutcropError, match="gone away"):
        store.fetch(store.uri)
    (draft,) = store.shelf.fetched.iterdir() if store.shelf.fetched else ()
    before = {path.name: path.stat().st_mtime_ns for path in draft.iterdir() if not path.name.startswith(".")}
    assert "config.json" in before
    assert "model.safetensors" not in before
    store.client = good
    _, folder = store.fetch(store.uri)
    assert store.seen[0][0] > 0
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert not any(path.name.startswith(".") for path in folder.iterdir())
    assert (folder / "model.safetensors").read_bytes() == (store.source / "model.safetensors").read_bytes()


def test_objects_that_change_meanwhile_are_told(store: Store) -> None:
    class Changing(ObjectClient):
        def read(self, uri: str) -> Iterator[bytes]:
            if uri.endswith("tokenizer.json"):
                store.s3.put_object(Bucket=store.name, Key="models/small/config.json", Body=b"{}")
            yield from super().read(uri)

    store.client = Changing(store.s3)
    with pytest.raises(OutcropError, match="changed while they were fetched"):
        store.fetch(store.uri)
    assert store.shelf.fetched is not None
    assert list(store.shelf.fetched.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://{name}/nothing", "nothing lies under s3://.*/nothing/"),
        ("s3://{name}/models", "no config.json .*there is one in small"),
        ("s3://no-such-bucket-here/x", "NoSuchBucket"),
    ],
)
def test_refusals(store: Store, uri: str, says: str) -> None:
    with pytest.raises(OutcropError, match=says):
        store.fetch(uri.format(name=store.name))


def test_a_full_disk_is_told_before_anything_is_fetched(store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        OutcropError, match=r"weights s3://b/p need 1000000\.0 GB more on the disk of .*make room there"
    ):
        bucket.require_disk(tmp_path, 10**15, str(BucketPrefix("b", "p")))
    bucket.require_disk(tmp_path, 0, "")
