"""What a device multiplies fast: bf16 where it has instructions for it, else float32.

A processor without them still accepts bf16, and torch then works the products out number by number:
right, and some hundred times slower than in float32. So we ask first.
"""

from __future__ import annotations

import torch

#: names in ``torch.cpu.get_capabilities()``: x86 with AVX-512 or AMX, ARM
CPU_HAS_BF16 = ("avx512_bf16", "amx_bf16", "bf16")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bf16 if the device multiplies it in hardware, else float32.

    Parameters
    ----------
    device : torch.device

    Examples
    --------
    >>> fast_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)
    True
    """
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        ask = getattr(torch.cpu, "get_capabilities", dict)  # an older torch cannot say
        has = any(ask().get(name, False) for name in CPU_HAS_BF16)
    else:
        has = False
    return torch.bfloat16 if has else torch.float32


def fast_arithmetic(device: torch.device) -> torch.autocast:
    """Products of matrices in bf16, sums and weights in float32 (chapter 4 says why it works).

    All in float32 on a device that would only imitate bf16.
    """
    wanted = fast_dtype(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted is torch.bfloat16)
