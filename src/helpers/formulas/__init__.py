"""Closed forms: one plain Python function each, with its meaning, units, source and a number.

``helpers.formulas.roofline``, ``transformer``, ``training``, ``kv_cache``, ``network``, ... hold
the formulas; :func:`all_formulas` lists them, :func:`get` finds one by name.
"""

from . import (
    economics,
    kv_cache,
    kv_estimate,
    kv_startup,
    model_size,
    network,
    quantization,
    roofline,
    serving,
    tensors,
    training,
    transformer,
)
from .registry import all_formulas, formula, get, latex_of

__all__ = [
    "all_formulas",
    "economics",
    "formula",
    "get",
    "kv_cache",
    "kv_estimate",
    "kv_startup",
    "latex_of",
    "model_size",
    "network",
    "quantization",
    "roofline",
    "serving",
    "tensors",
    "training",
    "transformer",
]
