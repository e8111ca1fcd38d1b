"""LoRA adapters on a decoder's linear layers: made, read, written, attached, switched, stacked and merged.

Files are PEFT's (adapter_config.json and adapter_model.safetensors), so PEFT, vLLM and llama.cpp read what is written
here and the reverse. Knows torch modules; nothing of datasets, jobs or of how text is generated.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from outcrop.errors import OutcropError

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
PREFIX: Final = "base_model.model."
"""What PEFT writes before a module's path."""

UNSUPPORTED: Final = (
    "use_dora",
    "modules_to_save",
    "alpha_pattern",
    "layer_replication",
    "lora_bias",
    "fan_in_fan_out",
)
"""Members of adapter_config.json that change the mathematics and that this file does not carry out: refused if set."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What one linear layer gains: scale * B A x."""

    a: Tensor
    """(rank, in)."""
    b: Tensor
    """(out, rank)."""
    scale: float
    """alpha / rank, or alpha / sqrt(rank) for rank-stabilised adapters."""

    def delta(self) -> Tensor:
        """The whole product as a float32 matrix of the layer's own shape (out, in)."""
        return (self.b.detach().float() @ self.a.detach().float()) * self.scale


@dataclass(frozen=True, slots=True, eq=False)
class LoraAdapter:
    """The factors of every adapted layer, by the layer's path in the model (model.layers.0.self_attn.q_proj)."""

    rank: int
    alpha: float
    factors: Mapping[str, Factors]

    @classmethod
    def new(cls, model: nn.Module, rank: int, alpha: float, seed: int) -> "LoraAdapter":
        """Fresh float32 factors for every linear layer but the output head: A as PEFT draws it, B zero."""
        generator = torch.Generator().manual_seed(seed)
        factors: dict[str, Factors] = {}
        for path, linear in linear_layers(model).items():
            bound = 1.0 / math.sqrt(linear.in_features)
            a = torch.empty(rank, linear.in_features).uniform_(-bound, bound, generator=generator)
            b = torch.zeros(linear.out_features, rank)
            device = linear.weight.device
            factors[path] = Factors(nn.Parameter(a.to(device)), nn.Parameter(b.to(device)), alpha / rank)
        if not factors:
            raise OutcropError(f"{type(model).__name__} has no linear layer that LoRA could adapt; use method=full")
        return cls(rank=rank, alpha=alpha, factors=factors)

    @classmethod
    def read(cls, folder: Path) -> "LoraAdapter":
        """Read a PEFT folder; raises OutcropError where the files are not LoRA as this file carries it out."""
        config = _read_config(folder)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        stabilised = bool(config.get("use_rslora"))
        tensors: dict[str, Tensor] = {}
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                tensors[key] = file.get_tensor(key)
        factors = {}
        for path in sorted({_module_path(key, folder) for key in tensors}):
            a, b = (tensors.get(f"{PREFIX}{path}.lora_{side}.weight") for side in "AB")
            if a is None or b is None:
                raise OutcropError(f"{folder / WEIGHTS_FILE} holds only one of the two factors of {path}")
            own_rank = a.shape[0]
            factors[path] = Factors(a, b, alpha / math.sqrt(own_rank) if stabilised else alpha / own_rank)
        return cls(rank=rank, alpha=alpha, factors=factors)

    def over(self, parent: "LoraAdapter") -> "LoraAdapter":
        """One adapter that does what `parent` and this one do together on the same base.

        A is the two A one upon the other, B the two scaled B side by side, so B A x is exactly the sum of both products
        (float32; a scale that is no power of two rounds each number of B once). Every layer of either has the summed
        rank: what only one of them adapts is filled with zeros, as readers of PEFT files know one rank and one alpha.
        """
        rank = _widest(parent) + _widest(self)
        paths = [*parent.factors, *(path for path in self.factors if path not in parent.factors)]
        stacked = {path: _stacked(parent.factors.get(path), self.factors.get(path), rank) for path in paths}
        return LoraAdapter(rank=rank, alpha=float(rank), factors=stacked)

    def write(self, folder: Path, base_name: str) -> None:
        """Write PEFT's two files; `base_name` tells people and PEFT which weights the adapter belongs to."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors(), folder / WEIGHTS_FILE, metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "target_modules": _targets(self.factors),
            "bias": "none",
            "use_rslora": False,
            "use_dora": False,
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "inference_mode": True,
            "modules_to_save": None,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def tensors(self) -> dict[str, Tensor]:
        """The factors under PEFT's names."""
        named = {}
        for path, factors in self.factors.items():
            named[f"{PREFIX}{path}.lora_A.weight"] = factors.a.detach().contiguous()
            named[f"{PREFIX}{path}.lora_B.weight"] = factors.b.detach().contiguous()
        return named

    def parameters(self) -> list[nn.Parameter]:
        """The trainable factors, always in the same order; empty for an adapter that was read."""
        both = (side for factors in self.factors.values() for side in (factors.a, factors.b))
        return [side for side in both if isinstance(side, nn.Parameter)]

    def size(self) -> int:
        """How many numbers the factors hold."""
        return sum(factors.a.numel() + factors.b.numel() for factors in self.factors.values())


class LoraLinear(nn.Module):
    """A linear layer that adds the acting adapters' products; weight and bias keep their names and storage.

    Which adapters act is one attribute look-up per call, so sequences of different adapters may follow each other
    without touching a module.
    """

    def __init__(self, linear: nn.Linear, switch: "Adapters") -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.factors: dict[str, Factors] = {}
        # In a tuple, so that torch does not take it for a submodule and state_dict stays the base's own.
        self._switch = (switch,)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out), in x's dtype."""
        rows = x.reshape(-1, self.in_features)
        acting = self.acting()
        flat = [part for one in acting for part in (one.a.to(rows.dtype), one.b.to(rows.dtype))]
        y: Tensor = _Product.apply(rows, self.weight, self.bias, tuple(one.scale for one in acting), *flat)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], self.out_features)

    def acting(self) -> list[Factors]:
        """The factors that act now."""
        return [found for name in self._switch[0].acting if (found := self.factors.get(name)) is not None]


class _Product(torch.autograd.Function):
    """W x + b and every adapter's scale * B A x, as one step of autograd: sums go into the products, not beside them.

    The weight is frozen: where it has a gradient of its own, LoRA is not what is trained.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scales: tuple[float, ...], *factors: Tensor
    ) -> Tensor:
        """(N, in) to (N, out)."""
        y = functional.linear(x, weight, bias)
        lows = []
        for scale, a, b in zip(scales, factors[::2], factors[1::2], strict=True):
            low = functional.linear(x, a)
            y.addmm_(low, b.t(), alpha=scale)
            lows.append(low)
        ctx.save_for_backward(x, weight, *factors, *lows)
        ctx.scales = scales
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Towards x and every factor that learns."""
        (above,) = gradients
        x, weight, *rest = ctx.saved_tensors
        count = len(ctx.scales)
        factors, lows = rest[: 2 * count], rest[2 * count :]
        towards = above @ weight if ctx.needs_input_grad[0] else None
        found: list[Tensor | None] = []
        for place, (scale, low) in enumerate(zip(ctx.scales, lows, strict=True)):
            a, b = factors[2 * place], factors[2 * place + 1]
            learns_a, learns_b = ctx.needs_input_grad[4 + 2 * place : 6 + 2 * place]
            between = (above @ b).mul_(scale) if learns_a or towards is not None else None
            if towards is not None and between is not None:
                towards.addmm_(between, a)
            found.append(between.t() @ x if learns_a and between is not None else None)
            found.append((above.t() @ low).mul_(scale) if learns_b else None)
        return towards, None, None, None, *found


class Adapters:
    """The adapters on one model, by name. Serving lets one act at a time; training one upon its frozen parent.

    Not safe across threads: forward passes with different adapters take turns, as the engine's step loop does.
    """

    def __init__(self, model: nn.Module) -> None:
        """Put a LoraLinear in the place of every linear layer but the output head, around the same weights."""
        self.acting: tuple[str, ...] = ()
        self._layers: dict[str, LoraLinear] = {}
        self._names: set[str] = set()
        for path, linear in linear_layers(model).items():
            parent, _, leaf = path.rpartition(".")
            if isinstance(linear, LoraLinear):
                raise OutcropError("this model already carries adapters")
            layer = LoraLinear(linear, self)
            setattr(model.get_submodule(parent), leaf, layer)
            self._layers[path] = layer

    def attach(self, name: str, adapter: LoraAdapter) -> None:
        """Give the model an adapter under a name; factors that were read are cast to the model's dtype."""
        strangers = adapter.factors.keys() - self._layers.keys()
        if strangers:
            raise OutcropError(f"adapter {name}: the base has no linear layer {sorted(strangers)[0]}")
        placed: dict[str, Factors] = {}
        for path, factors in adapter.factors.items():
            layer = self._layers[path]
            shapes = tuple(factors.a.shape[1:]) + tuple(factors.b.shape[:1])
            if shapes != (layer.in_features, layer.out_features):
                raise OutcropError(
                    f"adapter {name}: {path} maps {shapes} but the base's layer is "
                    f"{(layer.in_features, layer.out_features)}"
                )
            if not factors.a.requires_grad:
                like = layer.weight
                factors = Factors(factors.a.to(like), factors.b.to(like), factors.scale)  # noqa: PLW2901
            placed[path] = factors
        self.detach(name)
        for path, factors in placed.items():
            self._layers[path].factors[name] = factors
        self._names.add(name)

    def detach(self, name: str) -> None:
        """Take an adapter away; nothing happens where it is not attached."""
        for layer in self._layers.values():
            layer.factors.pop(name, None)
        self._names.discard(name)

    def names(self) -> frozenset[str]:
        """The adapters attached now."""
        return frozenset(self._names)

    def act(self, *names: str) -> None:
        """From now on forward passes add the products of all these adapters; KeyError for an unknown name."""
        for name in names:
            if name not in self._names:
                raise KeyError(name)
        self.acting = names

    @contextmanager
    def active(self, name: str | None) -> Iterator[None]:
        """Within the block, forward passes use this adapter (None: the base alone); KeyError for an unknown name."""
        before = self.acting
        self.act(*(() if name is None else (name,)))
        try:
            yield
        finally:
            self.acting = before


def linear_layers(model: nn.Module) -> dict[str, "nn.Linear | LoraLinear"]:
    """The layers that LoRA adapts: every linear one but the head that gives logits, by path, in the model's order."""
    head = _output_head(model)
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | LoraLinear) and layer is not head and _only_multiplies(layer)
    }


def _only_multiplies(layer: "nn.Linear | LoraLinear") -> bool:
    """Whether a layer gives x W + b of any rows: routers among experts are linear layers too, and choose beside it."""
    if type(layer) in (nn.Linear, LoraLinear):
        return True
    row = torch.linspace(-1, 1, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device).unsqueeze(0)
    with torch.no_grad():
        try:
            made = layer(row)
        except RuntimeError:
            return False  # It wants rows of another shape.
        plain = functional.linear(row, layer.weight, layer.bias)
    if not isinstance(made, Tensor) or made.shape != plain.shape:
        return False
    return plain.is_meta or torch.allclose(made, plain, rtol=1e-2, atol=1e-3 * float(plain.abs().max()))


def merge(model: nn.Module, adapter: LoraAdapter) -> None:
    """Add an adapter into the model's weights, in float32, rounding once to the dtype that the weights have."""
    layers = linear_layers(model)
    with torch.no_grad():
        for path, factors in adapter.factors.items():
            weight = layers[path].weight
            weight.copy_((weight.float() + factors.delta().to(weight.device)).to(weight.dtype))


def _widest(adapter: LoraAdapter) -> int:
    """The largest rank of its layers: an adapter that was read may have several."""
    return max(factors.a.shape[0] for factors in adapter.factors.values())


def _stacked(parent: Factors | None, child: Factors | None, rank: int) -> Factors:
    """The sum of two products (either may be missing) as one of this rank and of scale 1, float32."""
    both = [factors for factors in (parent, child) if factors is not None]
    a = torch.cat([factors.a.detach().float() for factors in both])
    b = torch.cat([factors.b.detach().float() * factors.scale for factors in both], dim=1)
    empty = rank - a.shape[0]
    return Factors(functional.pad(a, (0, 0, 0, empty)), functional.pad(b, (0, empty)), 1.0)


def _targets(paths: Collection[str]) -> list[str]:
    """PEFT's target_modules: names of layers where every block has the same ones, else the full paths.

    With a bare name PEFT would also adapt the layers of that name which the file says nothing of, and warn of them.
    """
    blocks: dict[tuple[str, ...], set[str]] = {}
    for path in paths:
        parts = path.split(".")
        numbers = tuple(part for part in parts if part.isdigit())
        blocks.setdefault(numbers, set()).add(".".join(part for part in parts if not part.isdigit()))
    even = len({frozenset(names) for names in blocks.values()}) == 1
    gapless = all(str(index) in {numbers[0] for numbers in blocks if numbers} for index in range(len(blocks)))
    return sorted({path.rsplit(".", 1)[-1] if even and gapless else path for path in paths})


def _output_head(model: nn.Module) -> object:
    """The module that turns hidden states into logits; None for a bare module of torch's own."""
    from transformers import PreTrainedModel

    transformer: Any = model if isinstance(model, PreTrainedModel) else None
    return transformer.get_output_embeddings() if transformer is not None else None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutcropError(f"{path} cannot be read as a PEFT configuration: {error}") from error
    if config.get("peft_type") != "LORA":
        raise OutcropError(f"{path}: peft_type is {config.get('peft_type')!r}; only LORA is served here")
    for member in UNSUPPORTED:
        if config.get(member):
            raise OutcropError(f"{path}: {member} is set, which is not carried out here")
    if config.get("bias", "none") != "none":
        raise OutcropError(f"{path}: bias is {config['bias']!r}; only none is carried out here")
    return config


def _module_path(key: str, folder: Path) -> str:
    path, _, side = key.removeprefix(PREFIX).rpartition(".lora_")
    if not key.startswith(PREFIX) or side not in {"A.weight", "B.weight"}:
        raise OutcropError(f"{folder / WEIGHTS_FILE}: {key} is no factor of a linear layer")
    return path
