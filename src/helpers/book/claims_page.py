"""The claims ledger: published numbers, tested in the open.

Everything shown here is computed when the notebook runs: the check behind each claim is executed,
and its source code is printed below the claim.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from helpers import catalog, claims
from helpers.book.style import tokens_css
from helpers.book.tables import Cell, Column, Table
from helpers.catalog.quantities import Quantity
from helpers.catalog.records import Claim
from helpers.formulas.registry import CHAPTERS

#: a claim's kind, as the reader sees it
VERDICTS: dict[str, str] = {
    "wrong": "Wrong",
    "contradiction": "Contradicts itself",
    "units": "Conditions missing",
    "misattributed": "Wrongly attributed",
    "unverifiable": "Unverified",
    "right": "Holds",
}
_BINARY = re.compile(r"[KMGTP]iB")
_STYLE = (
    ".mb-claims{color:var(--mb-fg);font-size:15px;line-height:1.5}"
    ".mb-claims details{border-top:1px solid var(--mb-line);padding:6px 0}"
    ".mb-claims summary{cursor:pointer;min-height:24px}"
    ".mb-claims summary small{display:block;font-size:13px;color:var(--mb-muted);"
    "font-variant-numeric:tabular-nums}"
    ".mb-claims code{color:inherit;background:none;border:0;padding:0;overflow-wrap:anywhere}"
    ".mb-claims summary b{color:var(--mb-c2)}.mb-claims .holds summary b{color:var(--mb-good)}"
    ".mb-claims :is(summary,a):focus-visible{outline:2px solid var(--mb-c1);outline-offset:2px}"
    ".mb-claims dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:8px 0}"
    ".mb-claims dt{color:var(--mb-muted);font-weight:400}.mb-claims dd{margin:0;min-width:0}"
    ".mb-claims pre{white-space:pre-wrap;font-size:13px;color:inherit;background:none;"
    "border:1px solid var(--mb-line);border-radius:6px;padding:8px;margin:4px 0}"
    ".mb-claims a{color:var(--mb-c1)}"
    "@media(max-width:480px){.mb-claims dl{grid-template-columns:1fr}.mb-claims dt{margin-top:4px}}"
    ".text_html:has(>.mb-claims),.jp-RenderedHTMLCommon:has(>.mb-claims)"
    "{background:none!important;padding:0!important}"
)


def shown(value: Quantity | None, written: str | None = None) -> str:
    """A number of the ledger as text.

    Parameters
    ----------
    value : Quantity, optional
        The number.
    written : str, optional
        How the record writes it, or one like it: binary units and tokens are kept as they are.

    Examples
    --------
    >>> shown(Quantity(4.5e15, "FLOP/s")), shown(Quantity(491.667, "")), shown(None)
    ('4.5 PFLOP/s', '491.7', '')
    >>> shown(Quantity(2**30, "B"), "3.93 GiB"), shown(Quantity(470288.0, "token"), "1 token")
    ('1 GiB', '470,288 token')
    """
    if value is None:
        return ""
    unit = (written or "").rpartition(" ")[2]
    if unit == value.unit == "token":
        return catalog.format_quantity(float(value), unit, 6, prefix="")
    if _BINARY.match(unit):
        return catalog.format_quantity(float(value), unit, 4)
    return catalog.format_quantity(float(value), value.unit, 4)


def _met(outcome: claims.Outcome) -> str:
    return shown(outcome.claimed, outcome.claim.claimed_value)


def _computed(outcome: claims.Outcome) -> str:
    return shown(outcome.computed, outcome.claim.corrected_value)


def _chosen(chapter: str | None) -> tuple[claims.Outcome, ...]:
    outcomes = claims.run_all(chapter)
    if not outcomes:
        raise ValueError(f"chapter: {chapter!r} has no claim in the ledger")
    place = {name: number for number, name in enumerate(CHAPTERS)}
    return tuple(
        sorted(
            outcomes,
            key=lambda o: (
                place.get(o.claim.chapter, len(place)), o.claim.number or 0, o.claim.id,
            ),
        )
    )  # fmt: skip


def table(chapter: str | None = None) -> Table:
    """One line for each claim: its name, the number as met, and as it should be.

    Parameters
    ----------
    chapter : str, optional
        Only the claims of this chapter.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> table("roofline").columns[1].label
    'As met'
    """
    rows = [
        [
            outcome.claim.id.replace("-", " "),
            Cell(_met(outcome), _value(outcome.claimed)),
            Cell(_computed(outcome), _value(outcome.computed)),
            VERDICTS[outcome.claim.kind],
            outcome.claim.chapter,
        ]
        for outcome in _chosen(chapter)
    ]
    return Table(
        f"{len(rows)} claims, each recomputed",
        [
            Column("Claim", text=True),
            Column("As met"),
            Column("Computed here"),
            Column("Verdict", text=True),
            Column("Chapter", text=True),
        ],
        rows,
    )


def _value(value: Quantity | None) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True, repr=False)
class Ledger:
    """The claims with their verdicts, checks and sources; shows itself in a notebook."""

    outcomes: Sequence[claims.Outcome]
    with_code: bool = True

    def __repr__(self) -> str:
        return "\n".join(
            f"{o.claim.id}: {VERDICTS[o.claim.kind]}; as met {_met(o) or '-'},"
            f" computed {_computed(o) or '-'}"
            for o in self.outcomes
        )

    def _repr_html_(self) -> str:
        body = "".join(_entry(outcome, self.with_code) for outcome in self.outcomes)
        return (
            f'<style data-mb="claims">{tokens_css()}{_STYLE}</style>'
            f'<div class="mb mb-claims">{body}</div>'
        )


def ledger(chapter: str | None = None, *, code: bool = True) -> Ledger:
    """All claims, or those of a chapter, to be opened one by one.

    Parameters
    ----------
    chapter : str, optional
        Only the claims of this chapter.
    code : bool
        Also give sources, confidence, and the source code of each check.

    Raises
    ------
    ValueError
        If there are none.
    """
    return Ledger(_chosen(chapter), code)


def _entry(outcome: claims.Outcome, with_code: bool) -> str:
    claim = outcome.claim
    met, found = escape(_met(outcome)), escape(_computed(outcome))
    numbers = f" <small>As met {met}, computed {found}.</small>" if met and found else ""
    pairs = [
        ("Where it is met", escape(claim.where_met)),
        ("Instead", escape(claim.corrected or "")),
        ("Why", escape(claim.verdict)),
    ]
    if with_code:
        pairs += [
            ("Sources", "; ".join(_source(key) for key in claim.sources)),
            ("Our confidence", claim.confidence),
            ("Check", _code(claim)),
        ]
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in pairs if text)
    holds = ' class="holds"' if claim.kind == "right" else ""
    return (
        f'<details{holds} id="claim-{escape(claim.id, quote=True)}"><summary>'
        f"<b>{VERDICTS[claim.kind]}.</b> {escape(claim.statement)}{numbers}</summary>"
        f"<dl>{items}</dl></details>"
    )


def _source(key: str) -> str:
    source = catalog.source(key)
    title = escape(source.title)
    link = f'<a href="{escape(source.url, quote=True)}">{title}</a>' if source.url else title
    read = {"not read": ", unverified: not read by us", "secondary": ", read as quoted elsewhere"}
    return f"{link}, {source.year}{read.get(source.how_read, '')}"


def _code(claim: Claim) -> str:
    if claim.check is None:
        return ""
    source = inspect.getsource(claims.check_function(claim))
    name = escape(claim.check.replace(":", "."))
    return f"<code>{name}</code><pre>{escape(source.strip())}</pre>"
