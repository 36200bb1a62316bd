"""The catalog's sources as BibTeX, from which the site's bibliography is made.

``references.bib`` in the repository's root holds the result; a test keeps the two equal.
"""

from __future__ import annotations

import re

from helpers.catalog import loading
from helpers.catalog.records import Source

_HOW = {
    "whole": "read",
    "parts": "read in parts",
    "bibliography": "bibliographic record checked",
    "secondary": "as quoted elsewhere",
    "not read": "not read",
}

_GROUP = re.compile(r"\b(Team|Group|AI)\b|\(")

HEADER = (
    "% Generated from src/helpers/catalog/data/sources.yaml: change a source there, then run\n"
    "% .venv/bin/python -m helpers.catalog bibtex > references.bib\n"
)


def _escape(text: str) -> str:
    return re.sub(r"([&%#_$])", r"\\\1", text)


def _people(names: tuple[str, ...]) -> str:
    """BibTeX wants "A and B"; a group stands in braces so that it has no surname."""
    return " and ".join(
        "{" + _escape(name) + "}" if _GROUP.search(name) else _escape(name) for name in names
    )


def _entry_type(source: Source) -> str:
    if source.kind == "book":
        return "book"
    if source.kind == "paper" and source.volume:
        return "article"
    if source.kind == "paper" and source.publisher:
        return "inproceedings"
    return "misc"


def entry(source: Source) -> str:
    """One source as a BibTeX entry.

    Parameters
    ----------
    source : Source
        A record of the catalog.

    Returns
    -------
    str

    Examples
    --------
    >>> print(entry(loading.source("williams-2009")).splitlines()[0])
    @article{williams-2009,
    """
    kind = _entry_type(source)
    venue = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}.get(
        kind, "howpublished"
    )
    fields: dict[str, str | None] = {
        "author": _people(source.authors)
        if source.authors
        else "{" + _escape(source.publisher or "") + "}",
        "title": "{" + _escape(source.title) + "}",
        venue: _escape(source.publisher)
        if source.publisher and (source.authors or kind != "misc")
        else None,
        "year": str(source.year),
        "volume": source.volume,
        "number": source.number,
        "pages": source.pages.replace("-", "--") if source.pages else None,
        "eprint": source.arxiv,
        "archivePrefix": "arXiv" if source.arxiv else None,
        "doi": source.doi,
        "url": source.url,
        "note": f"{_HOW[source.how_read].capitalize()}, {source.read_on.isoformat()}"
        + (f", revision {_escape(source.version)}" if source.version else ""),
    }
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{kind}{{{source.key},\n{body}}}\n"


def bibtex() -> str:
    """All sources that a reader can look up, sorted by key.

    Returns
    -------
    str
        The contents of ``references.bib``.

    Examples
    --------
    >>> "@misc{hoffmann-2022," in bibtex()
    True
    """
    cited = [s for s in loading.sources() if s.kind not in ("none", "calculation")]
    return HEADER + "\n" + "\n".join(entry(source) for source in cited).rstrip("\n")
