"""Linear weights laid out once for the processor that multiplies with them.

A matrix product of few rows reads the weights once and does little with them. Torch's product on
the CPU, given two rows or more, first copies the weights into the order that its inner loop wants,
*at every call*: so checking five tokens at once (speculative decoding) or decoding for sixteen
requests costs far more than reading the weights. They do not change, so they can be copied once.
Inference runtimes call this weight packing; oneDNN, the library behind these operators, calls it
reordering.

It pays for one to some tens of rows. Results differ from the plain product in the last digits, for
sums are added up in another order.
"""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: rows that the layout is chosen for; it serves all numbers of rows
ROWS = 16


class PackedLinear(nn.Module):
    """A linear layer with its weight in the processor's own order. Float32 on the CPU only.

    Examples
    --------
    >>> linear = nn.Linear(8, 3)
    >>> x = torch.ones(2, 8)
    >>> missing_operator() or torch.allclose(PackedLinear(linear)(x), linear(x), atol=1e-6)
    True
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()
        with torch.no_grad():
            self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, packed"


def pack(model: nn.Module) -> nn.Module:
    """A copy of a model with packed linear layers; all else is shared with the original.

    Where packing is not possible (another device or dtype, a torch without the operators), or is
    done already, the model itself comes back: it computes the same.

    Parameters
    ----------
    model : Transformer
        Not changed. The copy does not follow if it is trained on.

    Examples
    --------
    >>> from helpers.lm.config import ModelConfig
    >>> from helpers.lm.model import Transformer
    >>> model = Transformer(ModelConfig(layers=1, d_model=8, heads=2, kv_heads=1, head_dim=4,
    ...                                 ffn=16, vocab=11, context=32))
    >>> tokens = torch.tensor([[3, 1, 4]])
    >>> with torch.inference_mode():
    ...     torch.allclose(pack(model)(tokens), model(tokens), atol=1e-5)
    True
    """
    if why_not(model) or any(isinstance(module, PackedLinear) for module in model.modules()):
        return model
    # a copy of the modules that keeps the tensors: those listed count as copied already
    shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
    packed = copy.deepcopy(model, shared)
    for parent in list(packed.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
    return packed


def why_not(model: nn.Module) -> str:
    """Why a model cannot be packed; empty if it can."""
    weight = next(model.parameters())
    if weight.device.type != "cpu":
        return f"packing is for the CPU, not {weight.device.type}"
    if weight.dtype != torch.float32:
        return f"packing is for float32, not {weight.dtype}"
    return missing_operator()


@cache
def missing_operator() -> str:
    """Why this torch cannot pack; empty if it can.

    The operators are those that torch's own compiler emits, and not promised to users: so they are
    tried out once.
    """
    try:
        with torch.no_grad():
            x, weight = torch.randn(3, 16), torch.randn(8, 16)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
            out = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
            if not torch.allclose(out, F.linear(x, weight), atol=1e-4):
                return "oneDNN's product of packed weights is wrong here"
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        return f"this torch has no operators for packed weights ({type(error).__name__})"
    return ""
