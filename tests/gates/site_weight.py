"""Pages are light: their HTML, what a first view sends over the wire, and our own JavaScript."""

from __future__ import annotations

import gzip
import random
import re
import string
from pathlib import Path

from gates.browser import NARROW, Site
from gates.core import Defect
from gates.site_axe import PAGE_TYPES
from gates.site_loading import page

HTML_BYTES = 300_000
WIRE_BYTES = 500_000
OWN_SCRIPT_BYTES = 20_000  # gzipped

#: scripts that Sphinx and the theme bring; all others are ours
THEIRS = (
    "bootstrap.js", "pydata-sphinx-theme.js", "sphinx-book-theme.js", "doctools.js",
    "sphinx_highlight.js", "documentation_options.js", "clipboard.min.js", "copybutton.js",
    "copybutton_funcs.js", "design-tabs.js", "searchtools.js", "language_data.js",
    "searchindex.js",
)  # fmt: skip
_SCRIPT = re.compile(r"<script\b(?P<attributes>[^>]*)>(?P<body>.*?)</script>", re.DOTALL)


def own_scripts(path: Path) -> str:
    """Our JavaScript on a page: what stands in it, and files that are not the theme's."""
    parts = []
    for match in _SCRIPT.finditer(path.read_text("utf-8")):
        source = re.search(r'\bsrc="([^"?]+)', match["attributes"])
        if source is None:
            parts.append(match["body"])
        elif not source[1].endswith(THEIRS):
            file = path.parent / source[1]
            parts.append(file.read_text("utf-8") if file.is_file() else "")
    return "\n".join(parts)


def packed(text: str) -> int:
    """Bytes of a text as a public host sends it."""
    return len(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def wire_bytes(site: Site, name: str) -> int:
    """Encoded bytes of all responses until the page has loaded, on a phone, nothing cached."""
    context = site.chromium.context(NARROW, device_scale_factor=2)
    tab = context.new_page()
    session = context.new_cdp_session(tab)
    session.send("Network.enable")
    total = 0

    def add(event: dict) -> None:
        nonlocal total
        total += event["encodedDataLength"]

    session.on("Network.loadingFinished", add)
    try:
        tab.goto(f"{site.address}/{name}", wait_until="load")
        tab.wait_for_timeout(300)
    finally:
        context.close()
    return int(total)


def check(site: Site) -> list[Defect]:
    """Report pages over their budget; the figures are kept for the report."""
    found = []
    for name in site.pages:
        path = site.folder / name
        size = path.stat().st_size
        own = packed(own_scripts(path))
        wire = wire_bytes(site, name) if name in PAGE_TYPES else 0  # the others are made alike
        site.figures[f"weight of {name}"] = (
            f"{size / 1e3:.0f} kB HTML, {own / 1e3:.1f} kB own script"
            + (f", {wire / 1e3:.0f} kB over the wire" if wire else "")
        )
        if size > HTML_BYTES:
            found.append(Defect(name, 0, f"{size:,} bytes of HTML; at most {HTML_BYTES:,}"))
        if wire > WIRE_BYTES:
            found.append(Defect(name, 0, f"{wire:,} bytes over the wire; at most {WIRE_BYTES:,}"))
        if own > OWN_SCRIPT_BYTES:
            found.append(
                Defect(
                    name,
                    0,
                    f"{own:,} bytes of our own script, gzipped; at most {OWN_SCRIPT_BYTES:,}",
                )
            )
    return found


# ---- planted defects ---------------------------------------------------------------------------


def _noise(size: int) -> str:
    """Text that does not compress much."""
    return "".join(random.Random(0).choices(string.ascii_letters + string.digits, k=size))


def too_much_html(folder: Path) -> str:
    return page(folder, f"<p>{'word ' * (HTML_BYTES // 5)}</p>")


def a_heavy_style_sheet(folder: Path) -> str:
    (folder / "heavy.css").write_text(f"/*{_noise(WIRE_BYTES * 4 // 3)}*/", "utf-8")
    return page(folder, "", '<link rel="stylesheet" href="heavy.css">')


def too_much_script_in_the_page(folder: Path) -> str:
    return page(folder, f"<script>var a='{_noise(OWN_SCRIPT_BYTES * 4 // 3)}'</script>")


def too_much_script_beside_the_page(folder: Path) -> str:
    (folder / "own.js").write_text(f"var a='{_noise(OWN_SCRIPT_BYTES * 4 // 3)}'", "utf-8")
    return page(folder, '<script src="own.js"></script>')


PLANTS = (
    too_much_html, a_heavy_style_sheet, too_much_script_in_the_page,
    too_much_script_beside_the_page,
)  # fmt: skip
