"""A folder of weights seen from outside: every fault has its sentence, and nothing is loaded to find it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from outcrop.errors import OutcropError
from outcrop.sources.choice import choose
from outcrop.sources.look import look
from outcrop.sources.names import BucketPrefix, Bundled, Folder, HubRepo, parse


@pytest.fixture
def own(bundled: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(bundled, tmp_path / "own")


def edit(path: Path, **members: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(OutcropError) as caught:
        look(folder, "mine")
    assert str(caught.value).startswith("weights mine")
    for part in parts:
        assert part in str(caught.value)


def test_sizes_come_from_the_headers(own: Path) -> None:
    seen = look(own, "mine")
    tensors = load_file(own / "model.safetensors")
    assert seen.parameters == sum(tensor.numel() for tensor in tensors.values())
    assert seen.bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert (seen.architecture, seen.dtype, seen.context, seen.width) == ("LlamaForCausalLM", "bfloat16", 2048, 256)


def test_shards_are_one_model(own: Path) -> None:
    whole = look(own, "mine")
    tensors = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, own / f"part-{number}.safetensors")
    index = {name: f"part-{place % 2}.safetensors" for place, name in enumerate(names)}
    (own / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert dict(look(own, "mine").tensors) == dict(whole.tensors)
    (own / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {**index, "one.more": "part-0.safetensors"}})
    )
    refused(own, "1 tensors", "in no file: one.more")
    (own / "part-1.safetensors").unlink()
    refused(own, "1 of 2 files are missing: part-1.safetensors")
    (own / "model.safetensors.index.json").write_text("{}")
    refused(own, "no weight_map")


def test_a_file_that_is_cut_short_is_found(own: Path) -> None:
    path = own / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(own, "is cut short", f"{len(content) - 1:,} of {len(content):,} bytes")
    for broken in (b"", content[:5], b"\xff" * 8 + content[8:], b"\x05" + b"\0" * 7 + b"[1,2]"):
        path.write_bytes(broken)
        refused(own, "is no safetensors file", f"({len(broken)} bytes)")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    refused(own, "Git LFS pointer", "git lfs pull")


def test_other_forms_of_weights_get_their_name(own: Path) -> None:
    (own / "model.safetensors").unlink()
    refused(own, "neither model.safetensors nor model.safetensors.index.json")
    for name, word in (
        ("model.gguf", "GGUF"),
        ("pytorch_model-00001-of-2.bin", "pickle"),
        ("adapter_model.safetensors", "PEFT adapter"),
    ):
        (own / name).touch()
        refused(own, word, "and no model.safetensors")
        (own / name).unlink()


def test_a_folder_that_is_none(own: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "is not there")
    refused(own / "config.json", "is a file, not a folder")
    refused(tmp_path, "has no config.json", f"did you mean {own}?")
    (own / "config.json").unlink()
    (own / "adapter_config.json").touch()
    refused(own, "it looks like a PEFT adapter")
    for content in ("", "[]", "{"):
        (own / "config.json").write_text(content)
        refused(own, str(own / "config.json"))


def test_weights_that_could_not_be_tuned(own: Path) -> None:
    edit(own / "config.json", quantization_config={"quant_method": "gptq"})
    refused(own, "are quantised (gptq)", "the model that they were made from")
    edit(own / "config.json", quantization_config=None, is_encoder_decoder=True, model_type="t5")
    refused(own, "t5 is an encoder-decoder")
    edit(own / "config.json", is_encoder_decoder=False)
    save_file({"model.w": torch.zeros(2, 2, dtype=torch.int8)}, own / "model.safetensors")
    refused(own, "are quantised (I8)")
    save_file({}, own / "model.safetensors")
    refused(own, "hold no tensor")


def test_names_are_read_and_told() -> None:
    here = Path("/home/me")
    assert parse("bundled:text") == Bundled("text")
    assert parse("/models/x") == Folder(Path("/models/x"))
    assert parse("models/x", relative_to=here) == Folder(here / "models/x")
    assert parse("~/x", relative_to=here) == Folder(Path.home() / "x")
    assert parse("hf:org/repo") == HubRepo("org/repo")
    assert parse("hf:org/re.po-1@refs/pr/3") == HubRepo("org/re.po-1", "refs/pr/3")
    assert parse("hf:gpt2") == HubRepo("gpt2")
    assert parse("s3://b") == BucketPrefix("b", "")
    assert parse("s3://b/some/prefix/") == BucketPrefix("b", "some/prefix")
    for name in (f"hf:org/repo@{'0af1' * 10}", "s3://b/p#0123456789abcdef"):
        source = parse(name)
        assert isinstance(source, HubRepo | BucketPrefix)
        assert source.pinned
        assert str(source) == name
    for source in (HubRepo("a/b", "main"), HubRepo("a/b"), BucketPrefix("b", "p")):
        assert not source.pinned
        assert parse(str(source)) == source
    for wrong in ("hf:", "hf:a/b/c", "hf:../x", "s3:/b/p", "s3://", "bundled:", "", "models/x"):
        with pytest.raises(OutcropError, match="weights '"):
            parse(wrong)


def test_only_weights_and_words_are_taken() -> None:
    model = ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja", "merges.txt"]
    left = ["modeling.py", "pytorch_model.bin", "consolidated.00.safetensors", "original/model.safetensors", "x.gguf",
            "onnx/config.json", "adapter_model.safetensors", "README.md"]  # fmt: skip
    assert choose([*model, *left], "hf:a/b") == sorted(model)
    for names, says in (
        (["8b/config.json", "8b/model.safetensors"], "there is one in 8b"),
        (["README.md"], "it holds README.md"),
        ([], "it holds nothing"),
        (["config.json", "model.gguf"], "only GGUF files"),
        (["config.json", "consolidated.safetensors"], "no safetensors files"),
    ):
        with pytest.raises(OutcropError, match=says):
            choose(names, "hf:a/b")
