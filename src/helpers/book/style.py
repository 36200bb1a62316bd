"""One palette for plots, live figures, questions and tables, in light and in dark.

A colour has a role, not a hue: ``fg`` text, ``muted`` secondary text, ``grid`` rules,
``bg`` ground, ``line`` borders and ``c1`` to ``c5`` data. Python plots use the light value;
everything drawn as HTML or SVG uses the CSS variable of the same name and so follows the page.
"""

from __future__ import annotations

#: role -> (light, dark). Text roles keep a contrast of 4.5:1 on ``bg``, data roles 3:1.
PALETTE: dict[str, tuple[str, str]] = {
    "fg": ("#1c2733", "#e4e8ed"),
    "muted": ("#566270", "#a3adb9"),
    "grid": ("#dfe4ea", "#343b45"),
    "bg": ("#ffffff", "#1a1f26"),
    "line": ("#c9d1da", "#3d4652"),
    "c1": ("#1f5fa8", "#74b0f4"),
    "c2": ("#c2500c", "#f2945a"),
    "c3": ("#1b7a4b", "#5cc58f"),
    "c4": ("#7a4fa3", "#c09be6"),
    "c5": ("#7d95b4", "#617da0"),
    "good": ("#1b7a4b", "#5cc58f"),
    "bad": ("#b3261e", "#f2867e"),
}

#: light colours by role, for matplotlib
INK: dict[str, str] = {role: light for role, (light, _) in PALETTE.items()}

#: where a page says that it is dark: the book's site, JupyterLab, Colab
_DARK_HOSTS = (
    "html[data-theme=dark] .mb",
    "body[data-jp-theme-light=false] .mb",
    "html[theme=dark] .mb",
)
#: a bare frame that says nothing follows the system
_SYSTEM_DARK = "html:not([data-theme]):not([theme]):not(:has([data-jp-theme-light])) .mb"


def tokens_css() -> str:
    """The palette as CSS custom properties on ``.mb``, the class every component's root carries.

    Returns
    -------
    str
        CSS that defines ``--mb-fg`` and the rest, light by default, dark where the page is dark;
        print is always light.

    Examples
    --------
    >>> "--mb-fg:#1c2733" in tokens_css()
    True
    """
    light = ";".join(f"--mb-{role}:{pair[0]}" for role, pair in PALETTE.items())
    dark = ";".join(f"--mb-{role}:{pair[1]}" for role, pair in PALETTE.items())
    return (
        f".mb{{{light};color-scheme:light}}"
        f"@media screen{{{','.join(_DARK_HOSTS)}{{{dark};color-scheme:dark}}}}"
        f"@media screen and (prefers-color-scheme:dark){{{_SYSTEM_DARK}{{{dark};color-scheme:dark}}}}"
    )
