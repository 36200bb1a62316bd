"""Each page, once Sphinx has written its body: mended where it must be, feeders out of the way.

Notebooks that only feed a page stand in the table of contents (Sphinx must build them) but not in
the sidebar, and no "next page" leads to them.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatch
from pathlib import Path

from bs4 import BeautifulSoup

#: pages that feed others; readers meet their content on the page that shows it
FEEDERS = ("notebooks/front/*", "notebooks/*/figures")
#: feeders that are pages of their own as well
SHOWN = ("notebooks/front/formula-sheet", "notebooks/front/claims-ledger")

#: what a companion of the theme leaves in every body for live kernels, which the book does not use
_LEFTOVERS = re.compile(
    r'<script type="text/x-thebe-config">.*?</script>\s*(<script>kernelName = .*?</script>)?',
    re.DOTALL,
)


_GLUED = re.compile(r'<span class="pasted-text">([^<]*)</span>')


def is_feeder(docname: str) -> bool:
    """Whether a page only feeds others.

    Examples
    --------
    >>> is_feeder("notebooks/roofline/figures"), is_feeder("notebooks/roofline/measure")
    (True, False)
    """
    return docname not in SHOWN and any(fnmatch(docname, pattern) for pattern in FEEDERS)


def _without_feeders(toctree, pagename: str = "index") -> str:
    soup = BeautifulSoup(str(toctree), "html.parser")
    for link in soup.select("li > a"):
        target = (link.get("href") or "").split("#")[0].removesuffix(".html")
        docname = posixpath.normpath(posixpath.join(posixpath.dirname(pagename), target))
        if target and is_feeder(docname):
            link.parent.decompose()
    for pages_below in soup.select("details"):
        owner = pages_below.parent
        if pages_below.find("li") is None:
            pages_below.decompose()
            owner["class"] = [name for name in owner.get("class", []) if name != "has-children"]
        else:  # the theme's arrow has no name that a screen reader could say
            name = owner.find("a").get_text(strip=True)
            pages_below.find("summary")["aria-label"] = f"Pages of {name}"
    return str(soup)


def _neighbours(app, docname: str) -> tuple[str | None, str | None]:
    relations = app.env.mb_relations
    _, before, after = relations.get(docname, (None, None, None))
    while before and is_feeder(before):
        before = relations.get(before, (None, None, None))[1]
    while after and is_feeder(after):
        after = relations.get(after, (None, None, None))[2]
    return before, after


def _complete(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        body = _LEFTOVERS.sub("", context["body"])
        # a number from a notebook needs no box of its own, and a chapter has hundreds
        body = _GLUED.sub(r"\1", body)
        # a role that browsers no longer know, inside a list whose items must say so
        body = body.replace('role="doc-biblioentry"', 'role="listitem"')
        # a wide table scrolls in its box: the keyboard must be able to reach it
        context["body"] = body.replace(
            'class="pst-scrollable-table-container"',
            'class="pst-scrollable-table-container" tabindex="0" role="group" aria-label="Table"',
        )
    if "generate_toctree_html" in context:
        original = context["generate_toctree_html"]
        context["generate_toctree_html"] = lambda *a, **k: _without_feeders(
            original(*a, **k), pagename
        )
    if not hasattr(app.env, "mb_relations"):
        app.env.mb_relations = app.env.collect_relations()
    for key, name in zip(("prev", "next"), _neighbours(app, pagename), strict=True):
        title = app.env.titles[name].astext() if name else ""
        context[key] = (
            {"link": app.builder.get_relative_uri(pagename, name), "title": title} if name else None
        )


def _mend_search_page(app, exception) -> None:
    """The theme's search page holds its search field twice, under one id."""
    page = Path(app.outdir) / "search.html"
    if exception or not page.is_file():
        return
    first, *others = page.read_text("utf-8").split('id="search-input"')
    if len(others) > 1:
        page.write_text(first + 'id="search-input"' + "".join(others), "utf-8")


def setup(app) -> None:
    app.connect("html-page-context", _complete, priority=980)
    app.connect("build-finished", _mend_search_page)
    app.connect("env-updated", lambda app, env: env.__dict__.pop("mb_relations", None))
