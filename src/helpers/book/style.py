"""One palette for plots, live figures, questions and tables, in light and in dark.

A colour has a role, not a hue: ``fg`` text, ``muted`` secondary text, ``grid`` rules,
``bg`` ground, ``line`` borders and ``c1`` to ``c5`` data. Python plots use the light value;
everything drawn as HTML or SVG uses the CSS variable of the same name and so follows the page.
"""

from __future__ import annotations

from typing import Any

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
        "@media screen and (prefers-color-scheme:dark)"
        f"{{{_SYSTEM_DARK}{{{dark};color-scheme:dark}}}}"
    )


def figure_style(font: float = 12.5) -> dict[str, Any]:
    """Return matplotlib settings for a small figure in the book's colours.

    Parameters
    ----------
    font : float
        Size of all text, in pixels.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> with mpl.rc_context(figure_style()):
    ...     mpl.rcParams["axes.edgecolor"] == INK["muted"]
    True
    """
    from cycler import cycler  # comes with matplotlib

    return {
        "svg.hashsalt": "moving-bytes",  # ids that do not change from run to run
        "svg.fonttype": "none",  # text stays text, in the page's font
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same metrics everywhere
        "font.size": font,
        "axes.labelsize": font,
        "axes.titlesize": font,
        "legend.fontsize": font,
        "xtick.labelsize": font,
        "ytick.labelsize": font,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK["muted"],
        "axes.labelcolor": INK["fg"],
        "text.color": INK["fg"],
        "xtick.color": INK["muted"],
        "ytick.color": INK["muted"],
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        "grid.color": INK["grid"],
        "grid.linewidth": 0.8,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "xtick.major.pad": 5,
        "lines.linewidth": 2.2,
        "lines.solid_joinstyle": "round",
        "legend.frameon": False,
        "mathtext.default": "regular",
        "figure.dpi": 72,  # points are pixels
        "axes.prop_cycle": cycler(color=[INK[c] for c in ("c1", "c2", "c3", "c4", "c5")]),
    }
