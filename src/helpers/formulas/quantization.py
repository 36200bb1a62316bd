"""What a weight really occupies once its scales are counted. (Chapter 5.)"""

from __future__ import annotations

from .registry import formula
from .symbols import amount, count, rate

_GROUP = {
    "bits": rate("b", "bit", "bits of one code"),
    "group": count("g", "weights that share a scale"),
    "scale_bits": amount(r"b_s", "bit", "bits of one scale"),
}


@formula(
    meaning="bits stored per weight when each group of weights has a scale",
    symbol=r"b_\text{eff}",
    unit="bit",
    worked={"bits": 4, "group": 16, "scale_bits": 8, "result": 4.5},
    symbols=_GROUP,
    valid="no zero points, and no layer left unquantized",
    source="dettmers-2023",
    where="the method (block-wise quantization)",
    chapter="compression",
)
def bits_per_weight(bits, group, scale_bits):
    return bits + scale_bits / group


@formula(
    meaning="bits stored per weight when the scales are themselves quantized",
    symbol=r"b_\text{eff}",
    unit="bit",
    worked={
        "bits": 4,
        "group": 64,
        "scale_bits": 8,
        "supergroup": 256,
        "superscale_bits": 32,
        "result": 4.126953125,
    },
    symbols={
        **_GROUP,
        "supergroup": count("G", "scales that share a scale of their own"),
        "superscale_bits": amount(r"b_S", "bit", "bits of the scale of scales"),
    },
    valid="double quantization as in QLoRA",
    source="dettmers-2023",
    where="the method (double quantization)",
    chapter="compression",
)
def double_quantized_bits_per_weight(bits, group, scale_bits, supergroup, superscale_bits):
    return bits + scale_bits / group + superscale_bits / (group * supergroup)
