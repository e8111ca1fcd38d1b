"""outcrop models use and list, as a person types them: folders good, odd and wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.sources.accept import accept
from outcrop.sources.fetch import Fetched, fetch
from outcrop.sources.names import Folder
from outcrop.sources.proof import Proof, prove
from outcrop.sources.shelf import Shelf
from outcrop.train.convert import convert
from outcrop.train.prove import prove as prove_here
from tests.weights.vast import make_vast

LITE = "amazon.titan-text-lite-v1"
PAIRS, TALK = {"prompt-completion", "text"}, {"conversation"}
Outcrop = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def own(bundled: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(bundled, tmp_path / "own")


def here(folder: Path, name: str, limit: int) -> Proof:
    """The proof in this process, which has torch already."""
    return msgspec.convert(prove_here(folder, limit), Proof)


def edit(path: Path, **members: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def test_a_folder_is_used_shown_and_given_back(outcrop: Outcrop, own: Path, data: DataDirectory) -> None:
    where = ("--data", str(data.root))
    done = outcrop("models", "use", LITE, "own", *where)
    assert done.returncode == 0, done.stderr
    for part in (
        f"{LITE}:0:4k now runs {own}",
        "LlamaForCausalLM, 5.3M parameters",
        "2,048 tokens",
        "its own",
        "loaded; serving and training agree",
        "train all weights",
        "fits: at least 353 MB of",
    ):
        assert part in done.stdout
    listed = {row["id"]: row for row in json.loads(outcrop("models", "list", "--json", *where).stdout)}
    assert listed[f"{LITE}:0:4k"]["weights"] == str(own)
    assert listed[f"{LITE}:0:4k"]["stands_in"] is False
    assert listed["amazon.titan-text-express-v1:0:8k"]["weights"] == "bundled:text"
    shutil.rmtree(own)
    screen = outcrop("models", "list", *where).stdout
    assert f"missing: weights {own}" in screen or f"missing: weights '{own}'" in screen
    back = outcrop("models", "use", f"{LITE}:0:4k", "bundled:text", *where)
    assert back.returncode == 0, back.stderr
    assert all(row["stands_in"] for row in json.loads(outcrop("models", "list", "--json", *where).stdout))


def test_a_list_needs_no_data_directory(outcrop: Outcrop, tmp_path: Path) -> None:
    done = outcrop("models", "list", COLUMNS="80")
    assert done.returncode == 0
    assert "no data directory yet" in done.stderr
    assert "amazon.titan-text-express-v1:0:8k" in done.stdout
    assert "stands in" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    wrong = outcrop("models", "list", "--data", str(tmp_path / "mistyped"))
    assert wrong.returncode == 1
    assert "outcrop serve --data" in wrong.stderr
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize(
    ("model", "weights", "says"),
    [
        ("titan-text-lite", "bundled:text", "did you mean amazon.titan-text-lite-v1:0:4k?"),
        (LITE, "bundled:none", "none is not there"),
        (LITE, "nowhere", "nowhere is not there"),
    ],
)
def test_mistakes_are_told_in_a_line(
    outcrop: Outcrop, data: DataDirectory, model: str, weights: str, says: str
) -> None:
    done = outcrop("models", "use", model, weights, "--data", str(data.root))
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_tokenizer_of_another_model_is_refused(own: Path) -> None:
    tokenizer = Tokenizer.from_file(str(own / "tokenizer.json"))
    tokenizer.add_tokens([f"more-{number}" for number in range(20)])
    tokenizer.save(str(own / "tokenizer.json"))
    with pytest.raises(OutcropError, match="token 4115, and the model's embedding ends at 4095: they do not belong"):
        accept(Fetched("mine", own), PAIRS, here)


def test_tensors_that_are_missing_are_not_made_up(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    gone = tensors.pop("model.layers.3.mlp.up_proj.weight")
    save_file(tensors, own / "model.safetensors", metadata={"format": "pt"})
    for limit in (1 << 40, 0):
        with pytest.raises(OutcropError, match=r"not whole: 1 tensors .* first is model\.layers\.3\.mlp\.up_proj"):
            here(own, "mine", limit)
    tensors["model.layers.3.mlp.up_proj.weight"] = gone[:5].clone()
    save_file(tensors, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OutcropError, match=r"1 tensors .* another shape, the first is model\.layers\.3"):
        here(own, "mine", 1 << 40)


def test_a_child_tells_its_reason_in_a_line(own: Path) -> None:
    edit(own / "config.json", model_type="made_up")
    with pytest.raises(
        OutcropError, match=r"^weights mine: no causal .* does not know its architecture 'made_up'"
    ) as caught:
        prove(own, "mine", 1 << 40)
    assert "\n" not in str(caught.value)


def test_damaged_numbers_are_found(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"].fill_(float("nan"))
    save_file(tensors, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OutcropError, match="the logits are not all finite numbers"):
        here(own, "mine", 1 << 40)


def test_architectures_that_are_unknown_need_code_or_write_no_text(own: Path) -> None:
    config = json.loads((own / "config.json").read_text())
    for members, says in (
        ({"model_type": "made_up"}, "does not know its architecture 'made_up'"),
        ({"model_type": "made_up", "auto_map": {"AutoConfig": "c.C"}}, "such code is never run here"),
        ({"model_type": "vit"}, "does not generate text token by token"),
    ):
        (own / "config.json").write_text(json.dumps({**config, **members}))
        with pytest.raises(OutcropError, match=says):
            here(own, "mine", 1 << 40)


def test_a_template_without_a_stop_token_forbids_conversations_only(own: Path) -> None:
    (own / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}")
    found = accept(Fetched("mine", own), PAIRS, here)
    assert any("no conversations can be trained on" in remark for remark in found.remarks)
    with pytest.raises(OutcropError, match="never learn to stop"):
        accept(Fetched("mine", own), TALK, here)


def test_an_older_architecture_says_what_it_cannot(bundled: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=4096, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled / name, tmp_path / "gpt2")
    found = accept(Fetched("mine", tmp_path / "gpt2"), TALK, here)
    assert found.seen.context == 64
    assert found.proof.slower is None
    assert any("jobs need the hyperparameter method=full" in remark for remark in found.remarks)
    assert not found.template
    assert any("no chat template" in remark for remark in found.remarks)


@pytest.mark.filterwarnings("ignore:.*is_decoder")
def test_an_encoder_is_refused(bundled: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=4096, max_position_embeddings=64, **shape)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled / name, tmp_path / "bert")
    with pytest.raises(OutcropError, match="BertLMHeadModel sees the tokens behind a place"):
        accept(Fetched("mine", tmp_path / "bert"), PAIRS, here)


def test_weights_too_large_for_the_machine_are_refused(bundled: Path, tmp_path: Path) -> None:
    vast = make_vast(tmp_path / "vast", bundled, 4 * 10**11)
    with pytest.raises(
        OutcropError, match=r"mine: serving them takes at least (800|1600)\.3 GB of memory, and this machine has"
    ):
        accept(Fetched("mine", vast), PAIRS)


def test_a_tokenizer_of_the_older_kind_is_converted(bundled: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(["the parcel is late", "配送が遅れています"], trainer)
    folder = tmp_path / "older"
    torch.manual_seed(0)
    shape = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, eos_token_id=0)).save_pretrained(folder)
    tokenizer.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})
    )
    with pytest.raises(OutcropError, match=r"no tokenizer\.json.*outcrop\.train\.convert"):
        fetch(Folder(folder), Shelf(tmp_path), lambda done, total: None)
    convert(folder, folder)
    converted = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("the parcel is late", "配送が late?\n"):
        assert converted.encode(text).ids == tokenizer.encode(text).ids
        assert converted.decode(converted.encode(text).ids) == text
    assert accept(Fetched("mine", folder), PAIRS, here).proof.loaded


def test_a_recurrent_model_is_refused_before_it_could_be_served_wrongly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=320, hidden_size=64, num_hidden_layers=2)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    with pytest.raises(OutcropError, match="MambaForCausalLM cannot be served here: token by token"):
        here(tmp_path / "mamba", "mine", 1 << 40)
