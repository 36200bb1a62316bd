"""One notation for the whole book: what each argument of a formula is called, and in which unit.

An argument name means the same thing in every formula, so its letter, unit and allowed range are
written once, here. A formula with a different need overrides the entry in its decorator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Symbol:
    """A quantity of a formula: its letter, unit, meaning and allowed range.

    Parameters
    ----------
    latex : str
        The letter, as LaTeX.
    unit : str
        The unit, or ``"1"`` for a pure number.
    meaning : str
        What it is, in a few words.
    above : float, optional
        The value must be greater than this.
    at_least, at_most : float, optional
        The value must not be smaller, or greater, than this.
    below : float, optional
        The value must be smaller than this.

    Examples
    --------
    >>> Symbol("u", "1", "MFU", above=0, at_most=1).allowed
    'a finite number above 0 and at most 1'
    """

    latex: str
    unit: str
    meaning: str
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None

    @property
    def allowed(self) -> str:
        """The allowed range in words."""
        limits = [
            f"{word} {limit:g}"
            for word, limit in (
                ("above", self.above),
                ("at least", self.at_least),
                ("at most", self.at_most),
                ("below", self.below),
            )
            if limit is not None
        ]
        return " ".join(["a finite number", " and ".join(limits)]).strip()

    def allows(self, value: float | np.ndarray) -> bool | np.ndarray:
        """Tell whether a number lies in the allowed range; for an array, which ones do."""
        ok = np.isfinite(value) if isinstance(value, np.ndarray) else math.isfinite(value)
        if self.above is not None:
            ok = ok & (value > self.above)
        if self.at_least is not None:
            ok = ok & (value >= self.at_least)
        if self.at_most is not None:
            ok = ok & (value <= self.at_most)
        if self.below is not None:
            ok = ok & (value < self.below)
        return ok


def count(latex: str, meaning: str, unit: str = "1") -> Symbol:
    """Describe a number of things: above zero."""
    return Symbol(latex, unit, meaning, above=0)


def amount(latex: str, unit: str, meaning: str) -> Symbol:
    """Describe an amount that may be nothing: zero or more."""
    return Symbol(latex, unit, meaning, at_least=0)


def rate(latex: str, unit: str, meaning: str) -> Symbol:
    """Describe something that is divided by: above zero."""
    return Symbol(latex, unit, meaning, above=0)


def share(latex: str, meaning: str) -> Symbol:
    """Describe a share of a whole: from 0 to 1."""
    return Symbol(latex, "1", meaning, at_least=0, at_most=1)


#: argument name -> what it means, everywhere in the book
VOCABULARY: dict[str, Symbol] = {
    # work, bytes, time, rates
    "flops": amount("F", "FLOP", "floating-point operations"),
    "bytes_moved": amount("Q", "B", "bytes moved to and from memory"),
    "link_bytes": amount(r"Q_\text{link}", "B", "bytes sent over the link, one direction"),
    "peak_flops_per_s": rate(r"\pi", "FLOP/s", "peak arithmetic rate, dense"),
    "bandwidth_bytes_per_s": rate(r"\beta", "B/s", "memory bandwidth"),
    "link_bytes_per_s": rate(r"\beta_\text{link}", "B/s", "link bandwidth, one direction"),
    "intensity": amount("I", "FLOP/B", "arithmetic intensity"),
    "seconds": rate("t", "s", "time"),
    "latency_s": amount(r"\alpha", "s", "latency of one message"),
    "overhead_s": amount(r"t_0", "s", "overhead of one launch"),
    "launches": amount(r"n_\text{launch}", "1", "kernel launches"),
    "chips": count("n", "chips"),
    "clock_hz": rate("f", "Hz", "clock frequency"),
    "power_w": amount("W", "W", "power drawn"),
    # matrices
    "m": count("m", "rows of the left matrix and of the product"),
    "k": count("k", "columns of the left matrix, rows of the right"),
    "n": count("N", "rows and columns of a square matrix"),
    "rows": count("R", "rows"),
    "columns": count("C", "columns"),
    "elements": count("n", "elements"),
    "bytes_per_element": rate("w", "B", "bytes of one element"),
    # models and requests
    "parameters": count("P", "parameters"),
    "bytes_per_weight": rate("w", "B", "bytes of one weight"),
    "weight_bytes": rate(r"Q_\text{weights}", "B", "bytes of weights read in a step"),
    "kv_bytes_per_sequence": amount(r"Q_\text{kv}", "B", "bytes of KV cache read per sequence"),
    "batch": count("B", "sequences computed together"),
    "tokens": count("T", "new tokens of each sequence", "token"),
    "past": amount("S", "token", "tokens already in the cache"),
    "keys": count("S", "tokens attended to", "token"),
    "pairs": amount("A", "1", "query-key pairs that are computed, per head"),
    "window": count(r"W", "tokens a query may look back, itself included", "token"),
    "layers": count("L", "layers"),
    "d_model": count("C", "width of the residual stream"),
    "heads": count("H", "query heads"),
    "kv_heads": count(r"H_\text{kv}", "key and value heads"),
    "head_dim": count("D", "size of one head"),
    "ffn": count("M", "width of the feed-forward layer"),
    "vocab": count("V", "vocabulary"),
    "experts": count("E", "routed experts of a layer"),
    "top_k": count("k", "routed experts each token uses"),
    "shared_experts": amount(r"E_\text{s}", "1", "experts that every token uses"),
    "kv_rank": count("r", "values of the compressed key and value"),
    "rope_dim": count(r"D_\text{r}", "values of the shared rotary key"),
    "tokens_per_s": amount("v", "token/s", "tokens per second"),
}
