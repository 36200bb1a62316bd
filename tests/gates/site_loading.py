"""Every page of the built site loads without an error, and asks nothing of anybody else."""

from __future__ import annotations

from pathlib import Path

from gates.browser import WIDE, Site
from gates.core import Book, Defect


def check_built(site: Site) -> list[Defect]:
    """Report pages of the table of contents, the search and the index that were not built."""
    wanted = {name.rpartition(".")[0] + ".html" for _, name in Book().toc_entries()}
    missing = (wanted | {"search.html", "genindex.html"}) - set(site.pages)
    return [Defect(name, 0, "in the table of contents and not built") for name in sorted(missing)]


def check_errors(site: Site) -> list[Defect]:
    """Report errors and warnings of the console, script errors, and requests that failed."""
    found = []
    site.observe_all([(name, WIDE, "light") for name in site.pages])
    for name in site.pages:
        seen = site.observe(name)
        for kind in ("console", "errors", "failed"):
            found += [Defect(name, 0, f"{kind}: {message}") for message in getattr(seen, kind)]
    return found


def check_offline(site: Site) -> list[Defect]:
    """Report every request that leaves this machine."""
    return [
        Defect(name, 0, f"asks {url}, which is not on this site")
        for name in site.pages
        for url in site.observe(name).foreign
    ]


# ---- planted defects: small pages --------------------------------------------------------------


def page(folder: Path, body: str, head: str = "", name: str = "index.html") -> str:
    """Write a page without fault but for what is planted."""
    if name != "index.html" and not (folder / "index.html").exists():
        page(folder, "")
    (folder / name).write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Planted</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,">{head}</head><body><main><h1>Planted</h1>{body}</main>'
        "</body></html>",
        "utf-8",
    )
    return name


def a_script_error(folder: Path) -> str:
    return page(folder, "<script>undefined_name()</script>")


def a_complaint_on_the_console(folder: Path) -> str:
    return page(folder, "<script>console.error('the figure is not drawn')</script>")


def a_missing_file(folder: Path) -> str:
    return page(folder, '<img alt="a plot" src="nothing.png">')


def a_font_from_elsewhere(folder: Path) -> str:
    return page(folder, "", '<link rel="stylesheet" href="https://fonts.example.com/a.css">')


def a_request_that_a_script_makes_late(folder: Path) -> str:
    return page(
        folder,
        "<script>setTimeout(() => fetch('https://stats.example.com/').catch(() => 0), 20)</script>",
    )


def a_page_that_was_not_built(folder: Path) -> str:
    page(folder, "")
    return "chapters/roofline.html"


BUILT_PLANTS = (a_page_that_was_not_built,)
ERROR_PLANTS = (a_script_error, a_complaint_on_the_console, a_missing_file)
OFFLINE_PLANTS = (a_font_from_elsewhere, a_request_that_a_script_makes_late)
