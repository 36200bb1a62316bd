"""Put an explorable's parts together as HTML."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from helpers.book.style import tokens_css

_HERE = Path(__file__).parent
_NOTE = (
    "The figure and its controls appear when this cell is run or the notebook is trusted. "
    "Until then these are the words in the picture: "
)


@cache
def engine() -> str:
    """Return the shared script without its comments."""
    text = (_HERE / "explorable.js").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("//"))


@cache
def style_sheet() -> str:
    """Return the shared style sheet: the palette, then the component's own rules."""
    text = (_HERE / "explorable.css").read_text(encoding="utf-8")
    return tokens_css() + re.sub(r"/\*.*?\*/|\n", "", text)


def assemble(
    *,
    name: str,
    title: str,
    pictures: dict[str, str],
    readout: str,
    settings: str,
    spec: dict[str, Any],
    code: str,
) -> str:
    """Return the complete HTML of one explorable: shared parts first, then the instance.

    Parameters
    ----------
    name : str
        Identifies the explorable on a page.
    title, readout, settings : str
        Shown as text.
    pictures : dict of str to str
        A cleaned SVG for ``wide`` and one for ``narrow``.
    spec : dict
        What the engine needs besides the formula.
    code : str
        The formula as a JavaScript function.
    """
    figures = "".join(
        f'<div class="mb-x-{size}">{picture}</div>' for size, picture in pictures.items()
    )
    return (
        f'<style data-mb="explorable">{style_sheet()}</style>'
        f'<script type="module" data-mb="explorable">{engine()}</script>'
        f'<div class="mb mb-explorable" data-mb-name="{name}" role="group" '
        f'data-lm-suppress-shortcuts="true" aria-label="{html.escape(title, quote=True)}">'
        f'<p class="mb-x-title">{html.escape(title)}</p>'
        f'<output aria-live="polite">{html.escape(readout)}</output>'
        f'<p class="mb-x-settings">{html.escape(settings)}</p>'
        f'<p class="mb-x-note">{_NOTE}</p>'
        f"{figures}"
        '<div class="mb-x-controls"></div></div>'
        '<script type="module">(globalThis.mbExplorables ??= []).push('
        f'["{name}", {script_json(spec)}, {code}]);\nglobalThis.mbExplorable?.();</script>'
    )


def script_json(value: Any) -> str:
    """Return JSON that is safe inside a ``<script>`` element.

    Examples
    --------
    >>> script_json({"a": "</script>"})
    '{"a":"\\\\u003c/script>"}'
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
