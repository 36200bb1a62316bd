"""GPU kernels small enough to read, each with a reference in torch.

The kernels are written in Triton. They run on a GPU; without one they run in Triton's interpreter
(``TRITON_INTERPRET=1``, slow, for correctness only); without Triton the reference runs instead and
:func:`how` says so.

>>> from helpers import kernels
>>> kernels.how() in ("gpu", "interpreter", "reference")
True
"""

from .matmul import matmul, matmul_reference
from .paged_attention import (
    paged_attention,
    paged_attention_bytes,
    paged_attention_reference,
)
from .runtime import explain, how, source
from .streams import triad, triad_reference

__all__ = [
    "explain",
    "how",
    "matmul",
    "matmul_reference",
    "paged_attention",
    "paged_attention_bytes",
    "paged_attention_reference",
    "source",
    "triad",
    "triad_reference",
]
