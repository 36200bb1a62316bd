"""Linear layers whose weights are stored in 8 or 4 bits; inputs and outputs stay as they are.

A weight becomes a whole number, its *code*, times a *scale* that it shares with its neighbours: in
8 bits with all weights of its output channel, in 4 bits with a group of 32 or 64 along the input.
Scales follow from the largest weight alone, codes by rounding to nearest.

Decoding reads every weight for each token, so fewer bytes could mean less time. Whether they do is
up to the kernel. The plain way first writes the whole weight out in the dtype of the input and then
multiplies: it moves more bytes, not fewer. Torch also has CPU kernels that turn codes into weights
in registers. They exist in bfloat16 (in float32 they are many times slower than the plain way),
for a few rows of input. :meth:`QuantizedLinear.why_plain` says which way a layer goes, and why.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.formulas.quantization import bits_per_weight
from helpers.lm.config import ModelConfig

BITS = (8, 4)
#: weights that may share a scale in 4 bits
GROUPS = (32, 64, 128)
#: rows of input up to which torch's kernels were faster than the plain way (AVX-512, one core)
KERNEL_ROWS = 16

# ---- codes and scales ----------------------------------------------------------------------------


def quantize(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """Round to whole multiples of a scale per group: ``weight ~ codes * scale``.

    Parameters
    ----------
    weight : Tensor [out, in]
    bits : int
        Codes span ``-limit..limit`` with ``limit = 2**(bits - 1) - 1``.
    group : int
        Neighbours along the input that share a scale; divides ``in``.

    Returns
    -------
    codes : Tensor of int8 [out, in]
    scale : Tensor [out, in / group]
        In the dtype of the weight. The error of a weight is at most half its scale.

    Raises
    ------
    ValueError
        A weight is infinite or not a number: its whole group would be lost.

    Examples
    --------
    >>> codes, scale = quantize(torch.tensor([[7.0, -3.4, 0.6, 0.0]]), bits=4, group=4)
    >>> codes.tolist(), scale.tolist()
    ([[7, -3, 1, 0]], [[1.0]])
    """
    if not weight.is_meta and not bool(weight.isfinite().all()):
        raise ValueError("weight: holds a value that is infinite or not a number")
    limit = 2 ** (bits - 1) - 1
    # rounding in less than float32 would add its own error
    wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    wide = wide.unflatten(-1, (-1, group))  # [out, in] -> [out, groups, group]
    scale = (wide.abs().amax(-1) / limit).to(weight.dtype)
    scale = scale.clamp_min(torch.finfo(weight.dtype).tiny)  # a group of zeros: codes 0
    codes = (wide / scale.to(wide.dtype).unsqueeze(-1)).round().clamp(-limit, limit)
    return codes.to(torch.int8).flatten(-2), scale


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """``codes * scale`` per group: [out, in] and [out, groups] -> [out, in]."""
    grouped = codes.unflatten(-1, (scale.shape[-1], -1)).to(scale.dtype)  # [out, groups, group]
    return (grouped * scale.unsqueeze(-1)).flatten(-2)


def pack(codes: Tensor) -> Tensor:
    """Two codes of 4 bits a byte, the even column low: int8 [out, in] -> uint8 [out, in / 2].

    Examples
    --------
    >>> pack(torch.tensor([[-7, 7, 0, 1]], dtype=torch.int8)).tolist()  # each code + 8
    [[241, 152]]
    """
    shifted = (codes + 8).to(torch.uint8)
    return shifted[..., 0::2] | (shifted[..., 1::2] << 4)


def unpack(packed: Tensor) -> Tensor:
    """The inverse of :func:`pack`."""
    pairs = torch.stack((packed & 15, packed >> 4), dim=-1)  # [out, in / 2, 2]
    return pairs.flatten(-2).to(torch.int8) - 8


# ---- layers --------------------------------------------------------------------------------------


class QuantizedLinear(nn.Module):
    """What both widths share: the bias, the choice of a way, the ledger of bytes."""

    bits: int

    def __init__(self, linear: nn.Linear, group: int, kernel: bool):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.group, self.kernel = group, kernel
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The weight that the codes stand for, ``[out, in]``, written out anew at each call."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Bytes of codes and scales held, as :func:`linear_bytes` predicts; the bias apart."""
        return sum(b.nbytes for name, b in self.named_buffers() if name != "bias")

    def why_plain(self, x: Tensor) -> str:
        """Why this input takes the plain way; empty if torch's kernel will be used."""
        if not self.kernel:
            return "the kernel is switched off"
        if x.device.type != "cpu":
            return f"the kernels used here are for the CPU, not {x.device.type}"
        if x.dtype != torch.bfloat16:
            return f"torch's kernel is fast in bfloat16, not in {x.dtype}"
        if x.requires_grad and torch.is_grad_enabled():
            return "the kernel passes no gradient back"
        if (rows := x.numel() // self.in_features) > KERNEL_ROWS:
            return f"{rows} rows share the cost of writing the weight out once"
        if self.in_features % 32 or self.out_features % 16:
            return f"the kernel needs whole tiles, not {self.out_features} x {self.in_features}"
        return missing_kernel(self.bits)

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x: has {x.shape[-1]} channels; allowed is {self.in_features}")
        if self.why_plain(x):
            return self.plain(x)
        out = self.fused(x.reshape(-1, self.in_features))  # [rows, in] -> [rows, out]
        out = out.reshape(*x.shape[:-1], self.out_features)  # [rows, out] -> [..., out]
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.bits} bits, group {self.group}"


class Int8Linear(QuantizedLinear):
    """Codes of one byte, one scale per output channel."""

    bits = 8

    def __init__(self, linear: nn.Linear, kernel: bool = True):
        super().__init__(linear, group=linear.in_features, kernel=kernel)
        codes, scale = quantize(linear.weight, self.bits, self.group)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale.squeeze(-1))  # [out]

    @property
    def weight(self) -> Tensor:
        return dequantize(self.codes, self.scale.unsqueeze(-1))

    def plain(self, x: Tensor) -> Tensor:
        # codes are exact in every dtype, and a channel's scale can wait until after the product
        out = F.linear(x, self.codes.to(x.dtype)) * self.scale
        return out if self.bias is None else out + self.bias

    def fused(self, x: Tensor) -> Tensor:
        return torch.ops.aten._weight_int8pack_mm(x, self.codes, self.scale)


class Int4Linear(QuantizedLinear):
    """Codes of half a byte, one scale per group along the input.

    Torch's kernel wants the codes in an order of its own, which depends on the processor, and a
    zero point with each scale. That second copy is made when first needed and never saved;
    ``kernel=False`` does without.
    """

    bits = 4

    def __init__(self, linear: nn.Linear, group: int = 32, kernel: bool = True):
        super().__init__(linear, group=group, kernel=kernel)
        codes, scale = quantize(linear.weight, self.bits, group)
        self.register_buffer("packed", pack(codes))  # [out, in / 2]
        self.register_buffer("scale", scale)  # [out, in / group]
        self.copy: tuple[Tensor, Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        return dequantize(unpack(self.packed), self.scale)

    @property
    def copy_bytes(self) -> int:
        """Bytes of the kernel's own copy, which :attr:`bytes` does not count."""
        return sum(part.nbytes for part in self.copy or ())

    def plain(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def fused(self, x: Tensor) -> Tensor:
        if self.copy is None:
            codes = unpack(self.packed).int() + 8  # 1..15; the kernel takes off the 8 again
            # [out, groups] -> [groups, out] -> [groups, out, 2]: scale and zero point
            scale = self.scale.t()
            pairs = torch.stack((scale, torch.zeros_like(scale)), dim=-1).contiguous()
            self.copy = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), pairs
        order, pairs = self.copy
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, order, self.group, pairs)

    def _apply(self, fn, recurse=True):  # .to(...) and the like
        self.copy = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *arguments, **options):
        self.copy = None
        return super()._load_from_state_dict(*arguments, **options)


@lru_cache(maxsize=2)
def missing_kernel(bits: int) -> str:
    """Why torch's kernel of that width cannot be used on this machine; empty if it can.

    It is tried once on a small product whose result is known: these operators are not part of
    torch's public interface and differ between versions and processors.
    """
    linear = nn.Linear(64, 32, bias=False, dtype=torch.bfloat16)
    layer = Int8Linear(linear) if bits == 8 else Int4Linear(linear)
    x = torch.linspace(-1, 1, 3 * 64).reshape(3, 64).bfloat16()
    try:
        got = layer.fused(x)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch {torch.__version__} has no such kernel here ({str(error).splitlines()[0]})"
    expected = x.double() @ layer.weight.double().t()
    if not torch.allclose(got.double(), expected, rtol=2**-6, atol=2**-6):
        return f"torch {torch.__version__} has a kernel that computes something else here"
    return ""


# ---- a whole model -------------------------------------------------------------------------------

#: the linears of a layer, as (block, name)
LINEARS = (("attention", "qkv"), ("attention", "out"), ("ffn", "gate_up"), ("ffn", "down"))


def quantize_(model: nn.Module, bits: int = 8, group: int | None = None, kernel: bool = True):
    """Replace the four linears of each layer in place; embedding, head and norms stay.

    Parameters
    ----------
    model : Transformer
        Convert it to its dtype first: the scales are kept in it.
    bits : {8, 4}
    group : {32, 64, 128}, optional
        For 4 bits: how many weights along the input share a scale, 32 unless given. For 8 bits
        there is one scale per output channel and no choice.
    kernel : bool
        Whether torch's CPU kernels may be used.

    Returns
    -------
    Transformer
        The same model.

    Raises
    ------
    TypeError, ValueError
        For bits or a group of another value, a group that does not divide some layer's input, or a
        model that is quantised already. The model is then as it was.

    Examples
    --------
    >>> from helpers.lm.model import Transformer
    >>> config = ModelConfig(layers=1, d_model=32, heads=4, kv_heads=2, head_dim=8,
    ...                      ffn=64, vocab=97, context=64)
    >>> model = quantize_(Transformer(config), bits=4)
    >>> model.layers[0].ffn.down
    Int4Linear(64 -> 32, 4 bits, group 32)
    >>> held_bytes(model) == predicted_bytes(config, bits=4, group=32, scale_bits=32)
    True
    """
    group = _check(bits, group)
    found = [(getattr(layer, block), name) for layer in model.layers for block, name in LINEARS]
    for block, name in found:
        linear = getattr(block, name)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"model: {name} is a {type(linear).__name__}; allowed is Linear")
        if bits == 4 and linear.in_features % group:
            raise ValueError(f"group: {group} does not divide the {linear.in_features} of {name}")
    made = [
        Int8Linear(getattr(block, name), kernel)
        if bits == 8
        else Int4Linear(getattr(block, name), group, kernel)
        for block, name in found
    ]
    for (block, name), layer in zip(found, made, strict=True):
        setattr(block, name, layer)
    return model


def held_bytes(model: nn.Module) -> int:
    """Bytes of codes and scales of all quantised layers of a model."""
    return sum(part.bytes for part in model.modules() if isinstance(part, QuantizedLinear))


def linear_bytes(outputs: int, inputs: int, bits: int, group: int, scale_bits: int) -> int:
    """Bytes of a quantised weight with its scales.

    Examples
    --------
    >>> linear_bytes(4096, 4096, bits=4, group=64, scale_bits=16) / 4096**2 * 8  # bits per weight
    4.25
    """
    return round(outputs * inputs * bits_per_weight(bits, group, scale_bits) / 8)


def predicted_bytes(
    config: ModelConfig, bits: int, group: int | None = None, scale_bits: int = 16
) -> int:
    """What :func:`held_bytes` will be after :func:`quantize_`, from the sizes alone."""
    group = _check(bits, group)
    channels, ffn = config.d_model, config.ffn
    heads, qkv = config.heads * config.head_dim, (config.heads + 2 * config.kv_heads)
    shapes = [  # outputs, inputs
        (qkv * config.head_dim, channels),
        (channels, heads),
        (2 * ffn, channels),
        (channels, ffn),
    ]
    return config.layers * sum(
        linear_bytes(outputs, inputs, bits, group or inputs, scale_bits)
        for outputs, inputs in shapes
    )


def _check(bits: int, group: int | None) -> int | None:
    """The group to use: None stands for a whole row."""
    if isinstance(bits, bool) or bits not in BITS:
        raise ValueError(f"bits: {bits!r}; allowed are 8 and 4")
    if bits == 8:
        if group is not None:
            raise ValueError(f"group: {group!r}; with 8 bits allowed is None, a scale per channel")
        return None
    group = 32 if group is None else group
    if isinstance(group, bool) or group not in GROUPS:
        raise ValueError(f"group: {group!r}; allowed are {', '.join(map(str, GROUPS))}")
    return group
