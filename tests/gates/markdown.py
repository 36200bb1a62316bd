"""Prose as the gates need it: the book's own Markdown parser, its tokens flattened.

A regular expression over the source would take code, formulas and labels for prose; the parser
that builds the site knows which is which, and finds the text inside nested directives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

EXTENSIONS = {
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
    "smartquotes",
    "strikethrough",
    "tasklist",
}
#: directives whose body is prose
PROSE_DIRECTIVES = {
    "note",
    "tip",
    "warning",
    "important",
    "seealso",
    "caution",
    "danger",
    "hint",
    "attention",
    "error",
    "admonition",
    "dropdown",
    "figure",
    "table",
    "list-table",
    "grid",
    "grid-item",
    "grid-item-card",
    "card",
    "tab-set",
    "tab-item",
    "margin",
    "sidebar",
    "epigraph",
    "div",
    "glossary",
    "exercise",
    "solution",
}
#: roles whose content is shown as words
WORD_ROLES = {"term", "kbd", "abbr", "sub", "sup", "doc", "ref", "numref"}


@dataclass(frozen=True)
class Inside:
    """What a piece of text stands in: directive names, classes, heading, table, first paragraph."""

    directives: tuple[str, ...] = ()
    classes: frozenset[str] = frozenset()
    place: str = "paragraph"  # paragraph, heading, cell, head-cell, alt


@dataclass(frozen=True)
class Text:
    """A run of prose without code, formulas and computed values."""

    line: int
    text: str
    inside: Inside
    after_title: int = -1  # how many blocks after the page's title; -1 before it


@dataclass(frozen=True)
class Role:
    name: str
    content: str
    line: int


@dataclass(frozen=True)
class Directive:
    name: str
    argument: str
    options: dict
    body: str
    line: int
    inside: Inside


@dataclass(frozen=True)
class Heading:
    level: int
    text: str
    line: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    src: str
    alt: str
    line: int


@dataclass(frozen=True)
class Link:
    href: str
    text: str
    line: int


@dataclass(frozen=True)
class Table:
    """A table's cells as shown text, the head row first."""

    rows: tuple[tuple[str, ...], ...]
    line: int
    inside: Inside


@dataclass
class Document:
    texts: list[Text] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    directives: list[Directive] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    labels: list[tuple[str, int]] = field(default_factory=list)
    html: list[tuple[str, int]] = field(default_factory=list)
    front_matter: dict = field(default_factory=dict)

    def section(self, heading: Heading) -> tuple[int, float]:
        """First and last line of a section, subsections included."""
        for other in self.headings:
            if other.line > heading.line and other.level <= heading.level:
                return heading.line, other.line - 1
        return heading.line, float("inf")


#: stands where a role, a formula or code was: the words around it do not run together
GAP = "\ufffc"

_DIRECTIVE = re.compile(r"^\{(?P<name>[^}]+)\}\s*(?P<argument>.*)$")


@lru_cache(maxsize=1)
def _parser():
    return create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)


@lru_cache(maxsize=4096)
def read(text: str) -> Document:
    """Parse a page or a notebook's Markdown cell."""
    document = Document()
    _Reader(document).read(text, 0, Inside())
    return document


class _Reader:
    def __init__(self, document: Document):
        self.document = document
        self.since_title = -1
        self.pending_labels: list[str] = []

    def read(self, text: str, offset: int, inside: Inside) -> None:
        stack: list[Inside] = []
        here = inside
        rows: list[list[str]] | None = None
        table_line = 0
        level = 0
        for token in _parser().parse(text):
            line = offset + (token.map[0] if token.map else 0) + 1
            kind = token.type
            if kind == "front_matter":
                self.document.front_matter = yaml.safe_load(token.content) or {}
                continue
            if kind == "myst_target":
                self.document.labels.append((token.content, line))
                self.pending_labels.append(token.content)
                continue
            if kind == "html_block":
                self.document.html.append((token.content, line))
            if token.nesting == 1:
                stack.append(here)
                classes = here.classes | set(str(token.attrs.get("class", "")).split())
                place = {"th_open": "head-cell", "td_open": "cell", "heading_open": "heading"}.get(
                    kind, here.place
                )
                here = Inside(here.directives, frozenset(classes), place)
                if kind == "heading_open":
                    level = int(token.tag[1])
                if kind == "table_open":
                    rows, table_line = [], line
                if kind == "tr_open" and rows is not None:
                    rows.append([])
                if kind in ("paragraph_open", "table_open") and self.since_title >= 0:
                    self.since_title += 1
            elif token.nesting == -1:
                here = stack.pop()
                if kind == "table_close" and rows is not None:
                    self.document.tables.append(Table(tuple(map(tuple, rows)), table_line, here))
                    rows = None
            if kind == "inline":
                shown = self._inline(token.children, line, here)
                if here.place == "heading":
                    self.document.headings.append(
                        Heading(level, shown, line, tuple(self.pending_labels))
                    )
                    self.pending_labels = []
                    if level == 1 and self.since_title < 0:
                        self.since_title = 0
                if rows:
                    rows[-1].append(shown)
            elif kind in ("fence", "colon_fence"):
                self._fence(token, line, here)

    def _fence(self, token, line: int, here: Inside) -> None:
        match = _DIRECTIVE.match(token.info.strip())
        if not match:
            return
        options, body, skipped = _options(token.content)
        name = match["name"]
        classes = set(str(options.get("class", "")).split())
        inside = Inside((*here.directives, name), here.classes | classes, "paragraph")
        if self.since_title >= 0:
            self.since_title += 1
        if "name" in options:
            self.document.labels.append((str(options["name"]), line))
        self.document.directives.append(
            Directive(name, match["argument"], options, body, line, inside)
        )
        if name in ("figure", "image"):
            alt = str(options.get("alt", ""))
            self.document.images.append(Image(match["argument"], alt, line))
            if alt:
                self._words(alt, line, Inside(inside.directives, inside.classes, "alt"))
        if name in PROSE_DIRECTIVES:
            if match["argument"] and name not in ("figure",):
                self.read(match["argument"], line - 1, inside)
            if name == "glossary":
                body = re.sub(r"^ {2,4}", "", body, flags=re.MULTILINE)
            self.read(body, line + skipped, inside)

    def _words(self, text: str, line: int, inside: Inside) -> None:
        if text.strip():
            self.document.texts.append(Text(line, text, inside, self.since_title))

    def _inline(self, children, line: int, inside: Inside) -> str:
        """Record one block's inline content; returns its text as shown."""
        here = line
        run, run_line = "", line
        shown = ""
        link: tuple[str, int, str] | None = None
        for child in children:
            kind = child.type
            words = ""
            if kind == "text":
                words = child.content
            elif kind in ("softbreak", "hardbreak"):
                words = "\n"
                here += 1
            elif kind == "myst_role":
                name = child.meta["name"]
                self.document.roles.append(Role(name, child.content, here))
                plain = re.sub(r"\s*<[^>]*>$", "", child.content)
                words = plain if name in WORD_ROLES else GAP
                here += child.content.count("\n")
            elif kind == "code_inline" or kind.startswith(("math", "amsmath")):
                words = GAP
            elif kind == "image":
                alt = child.content
                self.document.images.append(Image(child.attrs.get("src", ""), alt, here))
                self._words(alt, here, Inside(inside.directives, inside.classes, "alt"))
                words = GAP
            elif kind == "link_open":
                link = (str(child.attrs.get("href", "")), here, "")
            elif kind == "link_close" and link:
                self.document.links.append(Link(link[0], link[2], link[1]))
                link = None
            elif kind == "html_inline":
                self.document.html.append((child.content, here))
            if words:
                shown += words
                run += words
                if link:
                    link = (link[0], link[1], link[2] + words)
        self._words(run, run_line, inside)
        return shown.strip()


def _options(content: str) -> tuple[dict, str, int]:
    """Options, body, and how many lines the options take, of a directive's content."""
    lines = content.split("\n")
    if lines and lines[0].strip() == "---":
        for end in range(1, len(lines)):
            if lines[end].strip() == "---":
                found = yaml.safe_load("\n".join(lines[1:end])) or {}
                return found, "\n".join(lines[end + 1 :]), end + 1
    options = {}
    taken = 0
    for line in lines:
        match = re.match(r"^\s*:([A-Za-z-]+):\s*(.*)$", line)
        if not match:
            break
        options[match[1]] = match[2]
        taken += 1
    return options, "\n".join(lines[taken:]), taken
