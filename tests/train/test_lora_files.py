"""Adapters: PEFT's files in and out, switching, merging, and refusals."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from outcrop.errors import OutcropError
from outcrop.lora import Adapters, LoraAdapter, LoraLinear, merge
from outcrop.weights import choose_dtype, fingerprint, load_model, load_tokenizer, save_model, stored_dtype

IDS = torch.tensor([[0, 9, 33, 120, 7, 250]])

# PEFT asks transformers for a property that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def trained(model: torch.nn.Module, seed: int, rank: int = 4, alpha: float = 6.0) -> LoraAdapter:
    """An adapter that does something."""
    adapter = LoraAdapter.new(model, rank, alpha, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for factors in adapter.factors.values():
            factors.b.normal_(0, 0.1, generator=generator)
    return adapter


@pytest.mark.parametrize("name", ["llama", "qwen"])
def test_peft_reads_what_we_write(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(name)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert tokenizer("返金").input_ids
    adapters = Adapters(model)
    adapter = trained(model, 1)
    adapters.attach("one", adapter)
    with adapters.active("one"):
        own = model(IDS).logits
    adapter.write(tmp_path / "one", str(folder))
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "one")
    torch.testing.assert_close(peft(IDS).logits, own, atol=1e-5, rtol=1e-5)
    assert (own - model(IDS).logits).abs().max() > 0.01
    assert not any("lm_head" in path or "embed" in path for path in adapter.factors)
    assert len(adapter.factors) == 7 * 2


@pytest.mark.parametrize("stabilised", [False, True])
def test_we_read_what_peft_writes(stabilised: bool, llama: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], use_rslora=stabilised, init_lora_weights=False
    )
    peft = get_peft_model(AutoModelForCausalLM.from_pretrained(llama), config)
    peft.eval()
    peft.save_pretrained(str(tmp_path))
    model = load_model(llama)
    adapters = Adapters(model)
    adapter = LoraAdapter.read(tmp_path)
    assert adapter.rank == 3
    adapters.attach("theirs", adapter)
    with adapters.active("theirs"):
        torch.testing.assert_close(model(IDS).logits, peft(IDS).logits, atol=1e-5, rtol=1e-5)


def test_adapters_take_turns_on_one_base(llama: Path) -> None:
    model = load_model(llama)
    before = model(IDS).logits
    adapters = Adapters(model)
    alone = {}
    for seed in (1, 2):
        single = load_model(llama)
        sole = Adapters(single)
        sole.attach("x", trained(single, seed))
        with sole.active("x"):
            alone[seed] = single(IDS).logits
        adapters.attach(str(seed), trained(model, seed))
    assert adapters.names() == {"1", "2"}
    for seed in (2, 1, 2):
        with adapters.active(str(seed)):
            assert torch.equal(model(IDS).logits, alone[seed])
            with adapters.active(None):
                assert torch.equal(model(IDS).logits, before)
    assert torch.equal(model(IDS).logits, before)
    adapters.detach("1")
    with pytest.raises(KeyError), adapters.active("1"):
        pass
    with pytest.raises(OutcropError, match="already carries adapters"):
        Adapters(model)
    assert set(model.state_dict()) == set(load_model(llama).state_dict())


@pytest.mark.parametrize("name", ["llama", "qwen"])
def test_merged_saved_and_loaded_again_it_gives_the_same_logits(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(name)
    model = load_model(folder)
    adapter = trained(model, 3)
    adapters = Adapters(model)
    adapters.attach("x", adapter)
    with adapters.active("x"):
        expected = model(IDS).logits
    merge(model, adapter)
    torch.testing.assert_close(model(IDS).logits, expected, atol=2e-5, rtol=1e-5)
    plain = load_model(folder)
    merge(plain, adapter)
    save_model(plain, tmp_path / "merged", folder, stored_dtype(folder))
    again, tokenizer = load_model(tmp_path / "merged"), load_tokenizer(tmp_path / "merged")
    torch.testing.assert_close(again(IDS).logits, expected, atol=2e-5, rtol=1e-5)
    assert tokenizer.eos_token == "</s>"
    assert (tmp_path / "merged" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (tmp_path / "merged" / "generation_config.json").exists()
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    assert torch.equal(again.state_dict()[embedding], load_model(folder).state_dict()[embedding])
    assert torch.equal(again.state_dict()[head], load_model(folder).state_dict()[head])


def test_merging_rounds_once_to_the_weights_own_dtype(llama: Path) -> None:
    wide, narrow = load_model(llama, torch.float32), load_model(llama, torch.bfloat16)
    adapter = trained(wide, 5)
    start = {name: value.float() for name, value in narrow.state_dict().items()}
    merge(narrow, adapter)
    for path, factors in adapter.factors.items():
        name = f"{path}.weight"
        assert torch.equal(narrow.state_dict()[name], (start[name] + factors.delta()).to(torch.bfloat16))


def test_a_read_adapter_computes_in_the_models_dtype(llama: Path, tmp_path: Path) -> None:
    model = load_model(llama, "bfloat16")
    trained(model, 6).write(tmp_path, "base")
    adapters = Adapters(model)
    adapters.attach("x", LoraAdapter.read(tmp_path))
    layer = model.model.layers[0].self_attn.q_proj
    assert isinstance(layer, LoraLinear)
    assert layer.factors["x"].a.dtype == torch.bfloat16
    with adapters.active("x"):
        assert model(IDS).logits.dtype == torch.bfloat16


def spoil(folder: Path, **members: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"use_dora": True}, "use_dora is set"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern is set"),
        ({"bias": "all"}, "bias is 'all'"),
    ],
)
def test_what_is_not_carried_out_is_refused(
    members: dict[str, object], sentence: str, llama: Path, tmp_path: Path
) -> None:
    trained(load_model(llama), 1).write(tmp_path, "base")
    spoil(tmp_path, **members)
    with pytest.raises(OutcropError, match=sentence):
        LoraAdapter.read(tmp_path)


def test_an_adapter_of_another_model_is_refused(llama: Path, tmp_path: Path) -> None:
    model = load_model(llama)
    trained(model, 1).write(tmp_path, "base")
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file(tensors | {f"{prefix}A.weight": torch.zeros(4, 31)}, file)
    with pytest.raises(OutcropError, match="maps"):
        Adapters(model).attach("x", LoraAdapter.read(tmp_path))
    save_file(
        {f"{prefix.replace('.0.', '.9.')}{side}.weight": tensors[f"{prefix}{side}.weight"] for side in "AB"}, file
    )
    with pytest.raises(OutcropError, match=r"no linear layer model\.layers\.9"):
        Adapters(load_model(llama)).attach("x", LoraAdapter.read(tmp_path))
    save_file({f"{prefix}A.weight": tensors[f"{prefix}A.weight"]}, file)
    with pytest.raises(OutcropError, match="only one of the two factors"):
        LoraAdapter.read(tmp_path)
    save_file({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(1)}, file)
    with pytest.raises(OutcropError, match="no factor of a linear layer"):
        LoraAdapter.read(tmp_path)


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(OutcropError, match="no causal language model"):
        load_model(tmp_path)
    with pytest.raises(OutcropError, match="no floating point dtype"):
        load_model(llama, "int8")


def test_a_narrow_model_computes_in_float32_on_a_cpu_and_a_wide_one_where_it_is_faster(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_model(llama).config
    assert choose_dtype(config, "auto", "cpu") == torch.float32
    config.hidden_size = 256
    for capable, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda capable=capable: capable)
        assert choose_dtype(config, "auto", "cpu") == dtype
    assert choose_dtype(config, "float32", "cpu") == torch.float32


def test_a_fingerprint_tells_weights_apart(llama: Path, qwen: Path) -> None:
    assert fingerprint(llama) == fingerprint(llama) != fingerprint(qwen)
