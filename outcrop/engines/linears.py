"""The linear layers of a transformers model, taken over: what adapters gain is added, weights are laid out once proven.

Knows torch modules, products and adapters; nothing of batches beyond their rows.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear

from outcrop.engines.adapters import Gains
from outcrop.engines.loaded import Target
from outcrop.engines.products import Product
from outcrop.lora import linear_layers


class RowLinear(nn.Module):
    """A linear layer of a served model, and what the rows' adapters gain upon it."""

    def __init__(self, layer: nn.Linear, gains: Gains, target: int) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        # In tuples, so that torch sees neither a module nor a parameter there.
        self._own: tuple[Tensor, Tensor | None] = (layer.weight, layer.bias)
        self._gains = (gains,)
        self._target = target
        self._read_elsewhere = False
        self._product: Product | None = None

    @property
    def weight(self) -> Tensor:
        """For modules that compute with it themselves; then it stays as it is."""
        self._read_elsewhere = True
        return self._own[0]

    @property
    def bias(self) -> Tensor | None:
        """As weight."""
        self._read_elsewhere = True
        return self._own[1]

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        y = linear(x, *self._own) if self._product is None else self._product(x)
        gains = self._gains[0]
        if gains.acting:
            gains.add(self._target, x.reshape(-1, self.in_features), y.view(-1, self.out_features))
        return y

    def lay_out(self) -> None:
        """Have the weight laid out for the machine and let go of it as it was; not where a model's code reads it."""
        if not self._read_elsewhere:
            self._product = Product(*self._own)
            self._own = (self._own[0].new_empty(0), None)


class Linears:
    """All linear layers that adapters gain upon, in the place of the model's own."""

    def __init__(self, model: Any) -> None:
        table = model.get_input_embeddings().weight
        layers = [(path, one) for path, one in linear_layers(model).items() if isinstance(one, nn.Linear)]
        targets = [Target(one.in_features, {path: one.out_features}) for path, one in layers]
        self.gains = Gains(targets, table.dtype, table.device)
        self._taken = []
        for number, (path, layer) in enumerate(layers):
            parent, _, leaf = path.rpartition(".")
            self._taken.append(RowLinear(layer, self.gains, number))
            setattr(model.get_submodule(parent), leaf, self._taken[-1])

    def lay_out(self) -> None:
        """Once a model has run: see RowLinear.lay_out."""
        for one in self._taken:
            one.lay_out()
