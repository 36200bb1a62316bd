"""The few icons that the theme shows, drawn here: the icon font it ships costs 850 kB a page.

Each icon is an SVG path on a 24 x 24 grid, stroked, used as a CSS mask, so that it takes the
colour of the text around it.
"""

from __future__ import annotations

from urllib.parse import quote

#: class of the theme -> path on a 24 x 24 grid
ICONS: dict[str, str] = {
    "fa-bars": "M3 6h18M3 12h18M3 18h18",
    "fa-list": "M9 6h12M9 12h12M9 18h12M3 6h2M3 12h2M3 18h2",
    "fa-magnifying-glass": "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M15.5 15.5L21 21",
    "fa-sun": "M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4"
    "M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
    "fa-moon": "M20 14A8.5 8.5 0 1 1 10 4a7 7 0 0 0 10 10z",
    "fa-circle-half-stroke": "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18zM12 3v18M15 5v14M18 7v10",
    "fa-download": "M12 3v12M7 11l5 5l5-5M4 20h16",
    "fa-expand": "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
    "fa-rocket": "M7 4l12 8l-12 8z",
    "fa-github": "M8 6l-6 6l6 6M16 6l6 6l-6 6",
    "fa-lightbulb": "M9 18h6M10 21h4M12 3a6 6 0 0 0-3.5 10.9c.8.7 1 1.3 1 2.1h5c0-.8.2-1.4 1-2.1"
    "A6 6 0 0 0 12 3z",
    "fa-pencil-alt": "M4 20l1-4L16.5 4.5l3 3L8 19zM14 7l3 3",
    "fa-pencil": "M4 20l1-4L16.5 4.5l3 3L8 19zM14 7l3 3",
    "fa-code": "M8 6l-6 6l6 6M16 6l6 6l-6 6",
    "fa-file": "M6 3h8l5 5v13H6zM14 3v5h5",
    "fa-file-pdf": "M6 3h8l5 5v13H6zM14 3v5h5M9 13h6M9 17h6",
    "fa-angle-left": "M15 5l-7 7l7 7",
    "fa-angle-right": "M9 5l7 7l-7 7",
    "fa-arrow-up": "M12 20V5M6 11l6-6l6 6",
    "fa-outdent": "M3 6h18M11 12h10M3 18h18M7 9l-4 3l4 3",
    "fa-home": "M4 11l8-7l8 7M6 10v10h12V10",
    "fa-chevron-down": "M5 9l7 7l7-7",
    "fa-chevron-right": "M9 5l7 7l-7 7",
    "fa-info": "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18zM12 11v6M12 7v1",
    "fa-warn": "M12 4L2 20h20zM12 10v5M12 17v1",
    "fa-external": "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
}

#: admonition class -> icon; the theme draws these with the icon font
ADMONITIONS: dict[str, str] = {
    "note": "fa-info",
    "important": "fa-warn",
    "warning": "fa-warn",
    "caution": "fa-warn",
    "danger": "fa-warn",
    "error": "fa-warn",
    "attention": "fa-warn",
    "tip": "fa-lightbulb",
    "hint": "fa-lightbulb",
    "seealso": "fa-angle-right",
}


def _url(path: str) -> str:
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#000' "
        f"stroke-width='2' stroke-linecap='round' stroke-linejoin='round'><path d='{path}'/></svg>"
    )
    return f'url("data:image/svg+xml,{quote(svg, safe=chr(39) + " =/:")}")'


def css() -> str:
    """Rules that draw the icons in place of the theme's icon font.

    Examples
    --------
    >>> ".fa-bars" in css()
    True
    """
    rules = [
        ".fa-solid,.fas,.far,.fab,.fa-brands,.admonition>.admonition-title:after"
        "{display:inline-block;width:1em;height:1em;background:currentColor;"
        "-webkit-mask:var(--mb-icon) center/contain no-repeat;"
        "mask:var(--mb-icon) center/contain no-repeat;vertical-align:-.125em}",
        ".fa-lg{font-size:1.2em}",
        # the theme puts the glyph in `content`; an empty box with a mask replaces it
        ".bd-article .admonition>.admonition-title:after,"
        ".nav-link.nav-external:after,nav.bd-links li>a.reference.external:after"
        '{content:""!important;font:inherit}',
    ]
    rules += [f".{name}{{--mb-icon:{_url(path)}}}" for name, path in ICONS.items()]
    rules.append(f".admonition>.admonition-title{{--mb-icon:{_url(ICONS['fa-info'])}}}")
    rules += [
        f".admonition.{name}>.admonition-title{{--mb-icon:{_url(ICONS[icon])}}}"
        for name, icon in ADMONITIONS.items()
    ]
    return "\n".join(rules)
