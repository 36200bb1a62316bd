"""The formula sheet: every registered formula, drawn from its own function.

``formula_sheet.show("roofline")`` in a notebook lists the formulas of a chapter: the formula as the
function computes it, its symbols with units, where it holds, its source, a worked number, and the
function to import.
"""

from __future__ import annotations

import re
from html import escape

from helpers import catalog, formulas
from helpers.book.mathml import to_mathml
from helpers.book.style import tokens_css
from helpers.formulas.registry import Formula

__all__ = ["FormulaSheet", "show", "worked_text"]

#: where a page of the book uses a formula: name -> (page, label of the section, what to say)
SEEN_ON: dict[str, tuple[str, str, str]] = {
    "attainable_flops_per_s": ("roofline", "roofline-place", "Roofline, the roof and its ridge"),
    "ridge_point": ("roofline", "roofline-place", "Roofline, the roof and its ridge"),
    "arithmetic_intensity": ("roofline", "roofline-place", "Roofline, the roof and its ridge"),
    "time_lower_bound": ("roofline", "roofline-bound", "Roofline, two clocks"),
    "time_upper_bound": ("roofline", "roofline-bound", "Roofline, two clocks"),
    "compute_seconds": ("roofline", "roofline-bound", "Roofline, two clocks"),
    "memory_seconds": ("roofline", "roofline-bound", "Roofline, two clocks"),
    "gemm_flops": ("roofline", "roofline-counting", "Roofline, how to count"),
    "gemm_bytes": ("roofline", "roofline-counting", "Roofline, how to count"),
    "gemm_intensity": ("roofline", "roofline-counting", "Roofline, how to count"),
    "square_gemm_intensity": ("roofline", "roofline-counting", "Roofline, how to count"),
    "gemv_intensity": ("roofline", "roofline-counting", "Roofline, how to count"),
    "elementwise_intensity": ("roofline", "roofline-counting", "Roofline, how to count"),
    "reduction_intensity": ("roofline", "roofline-counting", "Roofline, how to count"),
    "softmax_flops": ("roofline", "roofline-counting", "Roofline, how to count"),
    "softmax_bytes": ("roofline", "roofline-counting", "Roofline, how to count"),
    "attention_flops": ("roofline", "roofline-counting", "Roofline, how to count"),
    "attention_bytes": ("roofline", "roofline-counting", "Roofline, how to count"),
    "batch_at_ridge": ("roofline", "roofline-batch", "Roofline, live figure of the batch"),
    "weight_intensity": ("roofline", "roofline-batch", "Roofline, live figure of the batch"),
    "decode_tokens_per_s": (
        "roofline",
        "roofline-decode-bound",
        "Roofline, live figure of the decode bound",
    ),
    "batched_decode_tokens_per_s": (
        "roofline",
        "roofline-decode-bound",
        "Roofline, live figure of the decode bound",
    ),
    "mfu": ("roofline", "roofline-mfu", "Roofline, MFU and MBU"),
    "mbu": ("roofline", "roofline-mfu", "Roofline, MFU and MBU"),
    "achieved_share": ("roofline", "roofline-mfu", "Roofline, MFU and MBU"),
    "attainable_two_levels": ("roofline", "roofline-roofs", "Roofline, caches and networks"),
    "time_lower_bound_with_link": ("roofline", "roofline-roofs", "Roofline, caches and networks"),
    "link_ridge_point": ("roofline", "roofline-roofs", "Roofline, caches and networks"),
    "training_flops": ("two-workloads", "training-kinds", "Two workloads"),
    "state_bytes_per_parameter": ("two-workloads", "training-kinds", "Two workloads"),
    "training_state_bytes": ("two-workloads", "training-kinds", "Two workloads"),
    "lora_parameters": ("two-workloads", "training-kinds", "Two workloads"),
    "adapter_training_bytes": ("two-workloads", "training-kinds", "Two workloads"),
    "forward_flops": ("two-workloads", "inference-phases", "Two workloads"),
    "speculative_tokens_per_round": ("two-workloads", "blurred-line", "Two workloads"),
    "all_reduce_bus_bandwidth": ("units", "trap-bus", "Units and traps"),
    "algorithm_bandwidth": ("units", "trap-bus", "Units and traps"),
}

_STYLE = """
.mb-formulas{color:var(--mb-fg);max-width:760px}
.mb-formulas article{border-top:1px solid var(--mb-line);padding:.9rem 0 1rem;break-inside:avoid}
.mb-formulas .meaning{font-weight:600;margin:0}
.mb-formulas .formula{margin:.5rem 0;font-size:1.15em;overflow-x:auto;overflow-y:hidden}
.mb-formulas .formula math{display:inline math;math-style:normal}
.mb-formulas dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem;margin:.4rem 0}
.mb-formulas dt,.mb-formulas dd{margin:0;font-weight:400}
.mb-formulas .unit,.mb-formulas p.small{color:var(--mb-muted)}
.mb-formulas p.small{margin:.25rem 0 0;font-size:.9em}
.mb-formulas code{color:var(--mb-fg);background:none;padding:0;font-size:.95em;
overflow-wrap:anywhere}
.mb-formulas a{color:var(--mb-c1)}
.text_html:has(>.mb-formulas){background:none!important;padding:0!important}
"""

_PREFIXED = {"B", "B/s", "FLOP", "FLOP/s", "s", "Hz", "J", "W"}


class FormulaSheet:
    """The formulas of one chapter; shows itself in a notebook."""

    def __init__(self, entries: list[Formula]) -> None:
        self.entries = entries

    def _repr_html_(self) -> str:
        style = re.sub(r"\n", "", tokens_css() + _STYLE)
        body = "".join(_entry(entry) for entry in self.entries)
        return f'<style data-mb="formulas">{style}</style><div class="mb mb-formulas">{body}</div>'

    def __repr__(self) -> str:
        return "\n".join(f"{e.path}: {e.meaning}" for e in self.entries)


def show(chapter: str | None = None) -> FormulaSheet:
    """Return the sheet of a chapter, or of the whole book.

    Parameters
    ----------
    chapter : str, optional
        One of :data:`helpers.formulas.registry.CHAPTERS`.

    Raises
    ------
    ValueError
        If there is no such chapter, or it has no formula yet.

    Examples
    --------
    >>> print(show("serving"))
    helpers.formulas.serving.request_seconds: time of a request: first token, then one step for \
each further token
    helpers.formulas.serving.speculative_tokens_per_round: tokens generated by one round of \
speculative decoding
    helpers.formulas.serving.speculative_speedup: how many times as fast as the target alone \
speculative decoding is
    """
    entries = formulas.all_formulas(chapter)
    if not entries:
        raise ValueError(f"chapter: {chapter!r} has no formula yet")
    return FormulaSheet(entries)


def worked_text(entry: Formula) -> str:
    """Write a formula's worked number in words and units, as plain text.

    Examples
    --------
    >>> worked_text(formulas.get("ridge_point"))
    'peak_flops_per_s = 312 TFLOP/s, bandwidth_bytes_per_s = 2 TB/s gives 156 FLOP/B'
    """
    given = ", ".join(
        f"{name} = {_shown(value, entry.symbols[name].unit)}"
        for name, value in entry.worked.items()
    )
    return f"{given} gives {_shown(entry.result, entry.unit)}"


def _shown(value: float, unit: str) -> str:
    """A number with its unit, four digits at most; whole counts in full."""
    if (abs(value) >= 1e15 and unit not in _PREFIXED) or abs(value) >= 1e21:
        mantissa, exponent = f"{value:.3e}".split("e+")
        digits = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        number = f"{mantissa.rstrip('0').rstrip('.')} × 10{digits}"
    elif unit in _PREFIXED:
        return catalog.format_quantity(value, unit, 4).replace(" us", " µs")
    elif float(value).is_integer():
        number = f"{int(value):,}"
    else:
        number = catalog.format_number(value, 4)
    if unit == "$":
        return f"${number}"
    if unit == "token" and value != 1:
        return f"{number} tokens"
    return number if unit in ("1", "same as the bound", "any rate") else f"{number} {unit}"


def _math(latex: str) -> str:
    return to_mathml(latex, display=False)


def _source(entry: Formula) -> str:
    """Authors and year, linked to the public document, and the place in it."""
    if not entry.source:
        return ""
    source = catalog.source(entry.source)
    names = source.authors or (source.publisher,)
    family = names[0] if len(names[0].split()) > 3 else names[0].split()[-1]
    who = family if len(names) == 1 else f"{family} and others"
    text = f"{escape(who)} ({source.year}), <cite>{escape(source.title)}</cite>"
    if source.url:
        text = f'<a href="{escape(source.url, quote=True)}">{text}</a>'
    return f"{text}, {escape(entry.where)}"


def _entry(entry: Formula) -> str:
    """One formula as an article."""
    rows = "".join(
        f"<dt>{_math(symbol.latex)}</dt><dd>{escape(symbol.meaning)}{_unit(symbol.unit)}</dd>"
        for symbol in entry.symbols.values()
    )
    meaning = escape(entry.meaning[0].upper() + entry.meaning[1:])
    lines = [
        ("Holds for", escape(entry.valid)),
        ("Example", _example(entry)),
        ("Source", _source(entry)),
        ("Function", f"<code>{escape(entry.path)}</code>"),
        ("Used on", _seen_on(entry)),
    ]
    small = "".join(f'<p class="small">{name}: {text}.</p>' for name, text in lines if text)
    return (
        f'<article id="formula-{entry.name.replace("_", "-")}">'
        f'<p class="meaning">{meaning}{_unit(entry.unit)}</p>'
        f'<div class="formula">{_math(entry.latex)}</div><dl>{rows}</dl>{small}</article>'
    )


def _unit(unit: str) -> str:
    """A unit after a meaning; a pure number has none."""
    return "" if unit == "1" else f' <span class="unit">[{escape(unit)}]</span>'


def _example(entry: Formula) -> str:
    """The worked number with letters: ``π = 312 TFLOP/s, β = 2 TB/s: I* = 156 FLOP/B``."""
    given = ", ".join(
        f"{_math(entry.symbols[name].latex)} = {_shown(value, entry.symbols[name].unit)}"
        for name, value in entry.worked.items()
    )
    return f"{given} gives {_math(entry.symbol)} = {_shown(entry.result, entry.unit)}"


def _seen_on(entry: Formula) -> str:
    if entry.name not in SEEN_ON:
        return ""
    page, label, text = SEEN_ON[entry.name]
    return f'<a href="../../chapters/{page}.html#{label}">{escape(text)}</a>'
