"""A frozen linear layer says the same whichever way its weight is laid out."""

import pytest
import torch

from outcrop.engines import products
from outcrop.engines.products import Product


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("inputs", [48, 33])
def test_products(kernel: bool, dtype: torch.dtype, inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(products, "pays", lambda: False)
    torch.manual_seed(inputs)
    some = [torch.randn(outputs, inputs).to(dtype) for outputs in (40, 24)]
    biases = [torch.randn(len(one)).to(dtype) for one in some]
    product = Product.fused(some, biases)
    assert (product.inputs, product.outputs, product.bytes) == (inputs, 64, 64 * inputs * dtype.itemsize)
    for shape in ((1, inputs), (5, inputs), (2, 3, inputs)):
        x = torch.randn(shape).to(dtype)
        truth = x.double() @ torch.cat(some).double().t() + torch.cat(biases).double()
        found = product(x)
        assert (found.shape, found.dtype) == (truth.shape, dtype)
        bound = 2**-8 if dtype == torch.bfloat16 else 1e-5
        assert float((found.double() - truth).abs().max()) < bound * float(truth.abs().max())
