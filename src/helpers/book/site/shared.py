"""Code that many pages share goes into files of its own, which a browser fetches once.

Live figures, tables and questions carry their style and their engine with them, so that one stored
output works in Colab and in JupyterLab. On the site that would be the same kilobytes in every page.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from helpers.book.style import tokens_css

FOLDER = "_static/shared"
_BLOCK = re.compile(
    r'<(?P<tag>style|script)\b[^>]*\bdata-mb="(?P<name>[^"]+)"[^>]*>(?P<code>.*?)</(?P=tag)>',
    re.DOTALL,
)


class Asset(NamedTuple):
    """A file that a page needs."""

    name: str
    text: str


def take_out(html: str) -> tuple[str, list[Asset], list[Asset]]:
    """Take shared code out of a page.

    Returns
    -------
    (str, list of Asset, list of Asset)
        The page without it, style sheets, scripts; each once, in the order of the page.

    Examples
    --------
    >>> script = '<script type="module" data-mb="a">f()</script>'
    >>> body = f'<style data-mb="a">b{{}}</style><p>1</p>{script}'
    >>> body, styles, scripts = take_out(body)
    >>> body, [asset.text for asset in styles]
    ('<p>1</p>', ['b{}'])
    >>> scripts[0].text
    '(() => {"use strict";\\nf()\\n})();\\n'
    """
    found: dict[str, dict[str, Asset]] = {"style": {}, "script": {}}

    def out(match: re.Match[str]) -> str:
        tag, code = match["tag"], match["code"]
        if tag == "style":
            # the site's own style sheet has the palette already
            text, ending = code.replace(tokens_css(), ""), "css"
        else:
            # a deferred script runs in the place of a module, also on a page opened from a disk,
            # where browsers load no modules; the function keeps its names to itself
            text, ending = f'(() => {{"use strict";\n{code}\n}})();\n', "js"
        if text:
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            found[tag][text] = Asset(f"{match['name']}-{digest}.{ending}", text)
        return ""

    body = _BLOCK.sub(out, html)
    return body, list(found["style"].values()), list(found["script"].values())


def _write(folder: Path, asset: Asset) -> None:
    path = folder / asset.name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        scratch.write_text(asset.text, "utf-8")
        scratch.replace(path)


def _share(app, pagename, templatename, context, doctree) -> None:
    from sphinx.builders.html._assets import _CascadingStyleSheet, _JavaScript

    if app.builder.name not in ("html", "dirhtml") or "body" not in context:
        return
    context["body"], styles, scripts = take_out(context["body"])
    # one file for all styles of a page: each request delays the first view
    text = "\n".join(asset.text for asset in styles)
    if text:
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        styles = [Asset(f"styles-{digest}.css", text)]
    for asset in (*styles, *scripts):
        _write(Path(app.outdir) / FOLDER, asset)
    context["css_files"] = [
        *context["css_files"],
        *(_CascadingStyleSheet(f"{FOLDER}/{asset.name}") for asset in styles),
    ]
    context["script_files"] = [
        *context["script_files"],
        *(_JavaScript(f"{FOLDER}/{asset.name}", defer="defer") for asset in scripts),
    ]


def _drop_stale(app, exception) -> None:
    """Delete what no page asks for any more."""
    folder = Path(app.outdir) / FOLDER
    if exception or not folder.is_dir():
        return
    pages = "\n".join(path.read_text("utf-8") for path in Path(app.outdir).rglob("*.html"))
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()


def setup(app) -> None:
    # after the page is complete and the theme's own files are chosen
    app.connect("html-page-context", _share, priority=995)
    app.connect("build-finished", _drop_stale)
