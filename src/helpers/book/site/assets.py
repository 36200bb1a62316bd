"""One style sheet, no icon font, no script before the text: what makes the first view fast.

The theme and its companions bring ten style sheets and a dozen scripts, an icon script of
542 kB (gzipped) among them. Here the style sheets become one file, scripts wait until the page
has been parsed, and what the book does not use is not sent at all.
"""

from __future__ import annotations

import hashlib
import shutil
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from helpers.book import style
from helpers.book.site import icons

#: in the order in which the theme loads them; a later one overrides
STYLE_SHEETS = (
    "basic.css",
    "styles/bootstrap.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "mystnb.*.css",
    "copybutton.css",
    "sphinx-design.min.css",
)

#: scripts of the theme's companions that the book has no use for
UNUSED_SCRIPTS = (
    "sphinx-thebe.js",
    "togglebutton",
    "toggleOpenOnPrint",
    "thebe",
    "THEBE",
    "DOCUMENTATION_OPTIONS.pagename",
)

#: files and folders that no page refers to
UNUSED_FILES = (
    "vendor",
    "sphinx-thebe.js",
    "sphinx-thebe.css",
    "togglebutton.js",
    "togglebutton.css",
    "locales",
    "webpack-macros.html",
    "sbt-webpack-macros.html",
    "scripts/*.map",
    "scripts/*.txt",
    "styles/*.map",
    "styles",
    "mystnb.*.css",
    "copybutton.css",
    "sphinx-design.min.css",
    "basic.css",
    "plus.png",
    "minus.png",
    "file.png",
)


def own_css() -> str:
    """The book's own rules: palette, icons and the site's style sheet."""
    sheet = resources.files("helpers.book.assets").joinpath("site.css").read_text("utf-8")
    return "\n".join([style.tokens_css(), _theme_colours(), icons.css(), sheet])


def _theme_colours() -> str:
    # the theme's own blue falls short of 4.5:1 on the grey of every second table row
    return "".join(
        f'html[data-theme="{mode}"]{{--pst-color-link:{colour};--pst-color-primary:{colour}}}'
        for mode, colour in zip(("light", "dark"), style.PALETTE["c1"], strict=True)
    )


def _digest() -> str:
    parts = [version(name) for name in ("sphinx-book-theme", "pydata-sphinx-theme", "myst-nb")]
    return hashlib.sha256("".join([*parts, own_css()]).encode()).hexdigest()[:12]


def _bundle_name() -> str:
    # the content is in the name, so that a browser never shows yesterday's styles
    return f"book-{_digest()}.css"


def _slim_context(app, pagename, templatename, context, doctree) -> None:
    from sphinx.builders.html._assets import _CascadingStyleSheet, _JavaScript

    if app.builder.name not in ("html", "dirhtml"):
        return
    context["css_files"] = [_CascadingStyleSheet(f"_static/{_bundle_name()}")]
    # the search page's own inline script needs its libraries at once
    waits = templatename != "search.html"
    kept = []
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", script) or "")
        attributes = dict(getattr(script, "attributes", {}))
        if any(word in name or word in attributes.get("body", "") for word in UNUSED_SCRIPTS):
            continue
        if waits and name:
            attributes["defer"] = "defer"
        kept.append(_JavaScript(name or None, **attributes))
    context["script_files"] = kept


def _write_bundle(app, exception) -> None:
    if exception or app.builder.name not in ("html", "dirhtml"):
        return
    static = Path(app.outdir) / "_static"
    bundle = static / _bundle_name()
    for stale in set(static.glob("book-*.css")) - {bundle}:
        stale.unlink()
    parts = []
    for pattern in STYLE_SHEETS:
        found = sorted(static.glob(pattern))
        if not found and not bundle.exists():
            raise FileNotFoundError(f"{static / pattern}: the theme no longer ships it")
        parts += [path.read_text("utf-8") for path in found]
    if len(parts) >= len(STYLE_SHEETS):
        text = "\n".join(parts).replace('@charset "UTF-8";', "")
        scratch = bundle.with_suffix(".part")
        scratch.write_text(text + "\n" + own_css(), "utf-8")
        scratch.replace(bundle)
    for pattern in UNUSED_FILES:
        for path in static.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def setup(app) -> None:
    # a changed style sheet has a new name: every page is then written anew
    app.add_config_value("mb_style_sheet", _bundle_name(), "html")
    # after the theme and all companions have put in what they load
    app.connect("html-page-context", _slim_context, priority=990)
    # and after the theme has written its own pygments.css
    app.connect("build-finished", _write_bundle, priority=990)
