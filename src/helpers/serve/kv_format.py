"""How a row of keys or values is stored: as it is, in another dtype, or as whole numbers.

A row is what one token leaves behind in one head of one layer: ``D`` numbers. A format says which
tensors hold a row, its *parts*, and how to write and read them. The caches ask for nothing else, so
a new format is one small class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.formulas.quantization import bits_per_weight

#: each row of whole numbers has one scale, stored in this dtype: as wide in range as float32, and
#: exact enough, for the codes are made for the scale as it is stored
SCALE = torch.bfloat16


class KVFormat:
    """Rows as they are, in a floating-point dtype: a lossy cast if it is not the model's.

    Parameters
    ----------
    dtype : torch.dtype

    Examples
    --------
    >>> stored = KVFormat(torch.bfloat16)
    >>> stored.decode(stored.encode(torch.tensor([1.0, 1.001])), torch.float32)
    tensor([1., 1.])
    >>> stored.bits_per_element(head_dim=32)
    16
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype

    @property
    def name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def parts(self, head_dim: int) -> list[tuple[int, torch.dtype]]:
        """Width and dtype of each tensor that holds a row."""
        return [(head_dim, self.dtype)]

    def encode(self, rows: Tensor) -> tuple[Tensor, ...]:
        """``[..., D]`` to the parts, each ``[..., width]``."""
        return (rows.to(self.dtype),)

    def decode(self, parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """The parts to ``[..., D]`` in the dtype that the model computes in."""
        return parts[0].to(dtype)

    def bits_per_element(self, head_dim: int) -> float:
        """Bits that one number takes, its share of a scale included."""
        return self.dtype.itemsize * 8

    def __repr__(self) -> str:
        return f"<KVFormat {self.name}>"


class Int8Format(KVFormat):
    """Whole numbers from -127 to 127 and a scale for each row.

    Examples
    --------
    >>> stored = Int8Format()
    >>> codes, scale = stored.encode(torch.tensor([[-1.0, 0.5, 0.25, 0.0]]))
    >>> codes
    tensor([[-127,   64,   32,    0]], dtype=torch.int8)
    >>> stored.bits_per_element(head_dim=32)
    8.5
    """

    name = "int8"
    bits = 8

    def __init__(self):
        super().__init__(torch.int8)

    @property
    def largest(self) -> int:
        """The largest code: 127, or 7 in four bits."""
        return 2 ** (self.bits - 1) - 1

    def parts(self, head_dim: int) -> list[tuple[int, torch.dtype]]:
        return [(head_dim, torch.int8), (1, SCALE)]

    def encode(self, rows: Tensor) -> tuple[Tensor, ...]:
        codes, scale = self._round(rows)
        return codes.to(torch.int8), scale

    def decode(self, parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        codes, scale = parts
        return codes.to(dtype) * scale.to(dtype)

    def bits_per_element(self, head_dim: int) -> float:
        return bits_per_weight(self.bits, group=head_dim, scale_bits=SCALE.itemsize * 8)

    def _round(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``[..., D]``, still floating-point, and scales ``[..., 1]``."""
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        scale = rows.abs().amax(dim=-1, keepdim=True) / self.largest
        limits = torch.finfo(SCALE)  # a row of zeros must not be divided by zero
        scale = scale.clamp(limits.smallest_normal, limits.max).to(SCALE)
        codes = (rows / scale.to(rows.dtype)).round().clamp(-self.largest, self.largest)
        return codes, scale


class Int4Format(Int8Format):
    """Whole numbers from -7 to 7, two to a byte, and a scale for each row.

    Examples
    --------
    >>> stored = Int4Format()
    >>> stored.decode(stored.encode(torch.tensor([[-7.0, 3.2, 1.0, 0.4]])), torch.float32)
    tensor([[-7.,  3.,  1.,  0.]])
    >>> stored.bits_per_element(head_dim=32)
    4.5
    """

    name = "int4"
    bits = 4

    def parts(self, head_dim: int) -> list[tuple[int, torch.dtype]]:
        return [(head_dim // 2, torch.uint8), (1, SCALE)]

    def encode(self, rows: Tensor) -> tuple[Tensor, ...]:
        codes, scale = self._round(rows)
        # [..., D] -> [..., D/2] twice; -7..7 becomes 1..15, which four bits hold without a sign
        low, high = (codes + 8).to(torch.uint8).chunk(2, dim=-1)
        return low | (high << 4), scale

    def decode(self, parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        packed, scale = parts
        codes = torch.cat((packed & 15, packed >> 4), dim=-1)  # [..., D/2] twice -> [..., D]
        return (codes.to(dtype) - 8) * scale.to(dtype)


#: formats that have a name of their own, beside the floating-point dtypes
NAMED = {"int8": Int8Format, "int4": Int4Format}
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def kv_format(dtype: Any) -> KVFormat:
    """The format of a name, a dtype, or itself.

    Parameters
    ----------
    dtype : torch.dtype, str or KVFormat
        Such as ``torch.bfloat16``, ``"bfloat16"``, ``"int8"`` or ``"int4"``.

    Raises
    ------
    ValueError
        For anything else; the message lists what is allowed.

    Examples
    --------
    >>> kv_format("int8"), kv_format(torch.float32)
    (<KVFormat int8>, <KVFormat float32>)
    """
    if isinstance(dtype, KVFormat):
        return dtype
    name = dtype.removeprefix("torch.") if isinstance(dtype, str) else dtype
    for known in FLOATS:
        if name in (known, str(known).removeprefix("torch.")):
            return KVFormat(known)
    if dtype is torch.int8:
        name = "int8"
    if isinstance(name, str) and name in NAMED:
        return NAMED[name]()
    floats = ", ".join(str(known).removeprefix("torch.") for known in FLOATS)
    raise ValueError(f"dtype is {dtype!r}; it must be one of {floats}, {', '.join(NAMED)}")
