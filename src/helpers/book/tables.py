"""Tables that a reader can sort and filter, and that say where each figure is from.

A table is a native ``<table>`` with a caption, complete without JavaScript and in print. With
it, the header cells become buttons that sort and a text field filters the rows. At small widths
the table scrolls inside a region of its own that the keyboard can reach.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from helpers import catalog
from helpers.book.style import tokens_css
from helpers.catalog.records import Figure, Source

#: how a cell marks a figure that was not read in the maker's own words
MARKS: dict[str, tuple[str, str]] = {
    "read": ("", ""),
    "quoted": ("q", "quoted by the source, not read in the maker's own document"),
    "vendor": ("v", "the maker's claim"),
    "derived": ("d", "derived from other figures"),
    "unconfirmed": ("?", "unconfirmed: no document read"),
}


@functools.cache
def _shared() -> tuple[str, str]:
    """Style and script, the same text for every table, so that a page can drop repeats."""
    folder = Path(__file__).parent
    css = tokens_css() + (folder / "tables.css").read_text(encoding="utf-8").replace("\n", "")
    lines = (folder / "tables.js").read_text(encoding="utf-8").splitlines()
    js = "\n".join(line.strip() for line in lines if not line.startswith("//"))
    return (
        f'<style data-mb="table">{css}</style>',
        f'<script type="module" data-mb="table">{js}</script>',
    )


@dataclass(frozen=True)
class Column:
    """A column's heading.

    Parameters
    ----------
    label : str
        What stands in the header cell.
    unit : str
        Unit or qualifier, printed small below the label.
    text : bool
        Whether it holds words (sorted as such, aligned left) instead of numbers.
    """

    label: str
    unit: str = ""
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: what it shows, what it sorts by, and where it is from.

    Parameters
    ----------
    text : str
        What is shown; empty if there is no such figure.
    value : float or str, optional
        What the column sorts by; the text itself if not given.
    figure : Figure, optional
        The catalog's figure behind it, whose source and certainty are shown.
    """

    text: str
    value: float | str | None = None
    figure: Figure | None = None


def figure_cell(figure: Figure | None, unit: str, digits: int = 4) -> Cell:
    """A cell for a catalog figure, as a bare number in the column's unit.

    Parameters
    ----------
    figure : Figure or None
        None gives an empty cell, which sorts last.
    unit : str
        The column's unit, such as ``"TB/s"``.
    digits : int
        Significant digits at most.

    Returns
    -------
    Cell

    Examples
    --------
    >>> figure_cell(catalog.chip("h100-sxm").bandwidth.figure, "TB/s").text
    '3.35'
    """
    if figure is None:
        return Cell("")
    number = figure.to(unit)
    return Cell(catalog.format_number(number, digits), number, figure)


class Sources:
    """Numbers the sources that tables cite, and prints them as one list.

    One instance serves all tables of a page, so that a source has one number there.

    Examples
    --------
    >>> sources = Sources()
    >>> sources.number("williams-2009"), sources.number("kwon-2023"), len(sources)
    (1, 2, 2)
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, key: str) -> int | None:
        """The number of a source, given on first use; None if there is nothing to look up."""
        if catalog.source(key).kind in ("none", "calculation"):
            return None
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    @staticmethod
    def _item(number: int, source: Source) -> str:
        by = ", ".join(name for name in source.authors if name != "others")
        if "others" in source.authors:
            by += " and others"
        title = escape(source.title)
        if source.url:
            title = f'<a href="{escape(source.url, quote=True)}">{title}</a>'
        who = ", ".join(escape(part) for part in (by, source.publisher) if part)
        return (
            f'<li id="silicon-source-{number}">{who}: {title}, {source.year}.'
            f" Looked at {source.read_on.isoformat()}.</li>"
        )

    def _repr_html_(self) -> str:
        items = "".join(self._item(n, catalog.source(key)) for key, n in self._numbers.items())
        css, _ = _shared()
        return f'{css}<div class="mb mb-table"><ol class="mb-sources">{items}</ol></div>'

    def __repr__(self) -> str:
        return f"Sources: {len(self)} numbered"


#: a table with fewer rows is read at a glance: it is neither sorted nor filtered
FEW_ROWS = 8


@dataclass(frozen=True, repr=False)
class Table:
    """A table; sortable and filterable if it has eight rows or more.

    Parameters
    ----------
    caption : str
        What the table shows; also names its scrolling region.
    columns : sequence of Column
        Headings; the first column names the row.
    rows : sequence of sequences of Cell or str
        As many cells a row as there are columns.
    sources : Sources, optional
        Numbers the cited sources; without it cells show no source.
    note : str
        A line below the table.
    sortable : bool, optional
        Whether it can be sorted and filtered; if not said, by its size.

    Raises
    ------
    ValueError
        If the caption is empty, there is no row, or a row has a wrong number of cells.

    Examples
    --------
    >>> table = Table("Rates", [Column("Chip", text=True), Column("Rate")], [["A", Cell("2", 2.0)]])
    >>> table
    Table 'Rates': 1 row, 2 columns
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]
    sources: Sources | None = None
    note: str = ""
    sortable: bool | None = None

    def __post_init__(self) -> None:
        if not self.caption.strip():
            raise ValueError("caption: is empty; say what the table shows")
        if not self.rows:
            raise ValueError("rows: there are none; a table needs at least one")
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"rows[{index}]: has {len(row)} cells; the table has {len(self.columns)}"
                    f" columns ({', '.join(column.label for column in self.columns)})"
                )

    def __repr__(self) -> str:
        count = len(self.rows)
        return (
            f"Table {self.caption!r}: {count} row{'' if count == 1 else 's'},"
            f" {len(self.columns)} columns"
        )

    def _mark(self, figure: Figure) -> str:
        """The small print of a cell: certainty, then the source's number."""
        mark, meaning = MARKS[figure.certainty]
        parts = []
        if mark == "?":
            parts.append(f'<b class="mb-doubt" title="{meaning}">?</b>')
        elif mark:
            parts.append(mark)
        number = self.sources.number(figure.source) if self.sources is not None else None
        if number is not None:
            # No tab stop: the keyboard reaches the list of sources itself, not 400 links to it.
            # In brackets: a bare raised 2 would read as a square.
            parts.append(f'<a href="#silicon-source-{number}" tabindex="-1">[{number}]</a>')
        return f"<sup>{' '.join(parts)}</sup>" if parts else ""

    def _cell(self, cell: Cell | str, column: Column, first: bool) -> str:
        if isinstance(cell, str):
            cell = Cell(cell)
        tag = "th" if first else "td"
        attributes = ' scope="row"' if first else ""
        if column.text and not first:
            attributes += ' class="mb-x"'
        if cell.value is not None:
            shown = str(cell.value).removesuffix(".0")
            attributes += f' data-v="{escape(shown, quote=True)}"'
        elif cell.text == "" or cell.figure is not None:
            attributes += ' data-v=""'
        small = self._mark(cell.figure) if cell.figure is not None else ""
        if cell.figure is not None and cell.figure.range:
            low, high = (
                catalog.format_quantity(end, cell.figure.unit, 4) for end in cell.figure.range
            )
            attributes += f' title="published: {low} to {high}"'
        return f"<{tag}{attributes}>{escape(cell.text)}{small}</{tag}>"

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col"{" class=mb-x" if column.text else ""}>'
            f"<span>{escape(column.label)}</span>"
            + (f"<small>{escape(column.unit)}</small>" if column.unit else "")
            + "</th>"
            for column in self.columns
        )
        body = "".join(
            "<tr>"
            + "".join(
                self._cell(cell, column, first=index == 0)
                for index, (cell, column) in enumerate(zip(row, self.columns, strict=True))
            )
            + "</tr>"
            for row in self.rows
        )
        css, js = _shared()
        note = f'<p class="mb-key">{escape(self.note)}</p>' if self.note else ""
        live, bar = (
            f' data-rows="{len(self.rows)}"',
            (
                '<div class="mb-bar" hidden><label>Show rows with <input type="search"'
                ' autocomplete="off" spellcheck="false"></label>'
                f'<output aria-live="polite">{len(self.rows)} rows</output></div>'
            ),
        )
        sortable = len(self.rows) >= FEW_ROWS if self.sortable is None else self.sortable
        if not sortable:
            live = bar = js = ""
        return (
            f'{css}<div class="mb mb-table"{live}>{bar}'
            '<div class="mb-scroll" role="region" tabindex="0"'
            f' aria-label="{escape(self.caption, quote=True)}">'
            f"<table><caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{note}</div>{js}"
        )


def key_of_marks(certainties: Iterable[str] = MARKS) -> str:
    """One line that explains the small marks.

    Examples
    --------
    >>> key_of_marks(["read", "derived"])
    'd derived from other figures.'
    """
    said = [f"{MARKS[c][0]} {MARKS[c][1]}" for c in certainties if MARKS[c][0]]
    return "; ".join(said) + "."


@dataclass(frozen=True, repr=False)
class Notes:
    """Titled remarks, as a description list.

    Parameters
    ----------
    items : sequence of (str, str)
        Title and text of each.

    Raises
    ------
    ValueError
        If there is none, or a title or text is empty.

    Examples
    --------
    >>> Notes([("Sparse first", "Halve it.")])
    Notes: 1 item
    """

    items: Sequence[tuple[str, str]]

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("items: there are none; give at least one (title, text)")
        for title, text in self.items:
            if not title.strip() or not text.strip():
                raise ValueError(f"items: ({title!r}, {text!r}) has an empty part")

    def __repr__(self) -> str:
        return f"Notes: {len(self.items)} item{'' if len(self.items) == 1 else 's'}"

    def _repr_html_(self) -> str:
        css, _ = _shared()
        items = "".join(f"<dt>{escape(t)}</dt><dd>{escape(text)}</dd>" for t, text in self.items)
        return f'{css}<div class="mb mb-table"><dl class="mb-notes">{items}</dl></div>'
