"""Every internal link of the built site leads to a page and a place that exist."""

from __future__ import annotations

from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gates.browser import Site
from gates.core import Defect
from gates.site_loading import page

#: attributes that name a file
_ATTRIBUTES = {"href", "src", "srcset", "poster", "data", "action"}


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids: set[str] = set()
        self.twice: set[str] = set()
        self.links: list[tuple[int, str]] = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                (self.twice if value in self.ids else self.ids).add(value)
            elif name in _ATTRIBUTES and not (tag == "form" and not value):
                self.links.append((self.getpos()[0], value))


@lru_cache(maxsize=512)
def _read(path: Path, _changed_ns: int) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    return reader


def read(path: Path) -> _Reader:
    return _read(path, path.stat().st_mtime_ns)


def check(site: Site) -> list[Defect]:
    """Report links to pages, files and anchors that are not there, and ids given twice."""
    found = []
    for name in site.pages:
        here = site.folder / name
        reader = read(here)
        found += [Defect(name, 0, f"the id {twice!r} stands twice") for twice in reader.twice]
        for line, link in set(reader.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith(("data:", "#!")):
                continue
            target = here
            if parts.path:
                target = (here.parent / unquote(parts.path)).resolve()
                if target.is_dir():
                    target /= "index.html"
                if not target.is_relative_to(site.folder.resolve()):
                    found.append(Defect(name, line, f"{link}: leads out of the site"))
                    continue
                if not target.is_file():
                    found.append(Defect(name, line, f"{link}: no such file on the site"))
                    continue
            anchor = unquote(parts.fragment)
            if not anchor or anchor == "top" or target.suffix != ".html":
                continue
            if anchor not in read(target).ids:
                found.append(Defect(name, line, f"{link}: no such place on that page"))
    return found


# ---- planted defects ---------------------------------------------------------------------------


def a_link_to_no_page(folder: Path) -> str:
    return page(folder, '<a href="nothing.html">there</a>')


def a_link_to_no_place(folder: Path) -> str:
    page(folder, '<p id="here">text</p>', name="other.html")
    return page(folder, '<a href="other.html#there">there</a>')


def a_script_that_is_not_there(folder: Path) -> str:
    return page(folder, '<script src="_static/gone.js"></script>')


def an_id_given_twice(folder: Path) -> str:
    return page(folder, '<p id="a">one</p><p id="a">two</p>')


PLANTS = (a_link_to_no_page, a_link_to_no_place, a_script_that_is_not_there, an_id_given_twice)
