"""Every page fits its window, and says in words what its pictures show."""

from __future__ import annotations

from pathlib import Path

from gates.browser import NARROW, WIDE, Site
from gates.core import Defect
from gates.site_loading import page


def check_scroll(site: Site) -> list[Defect]:
    """Report pages that scroll sideways on a laptop or on a phone."""
    found = []
    for name in site.pages:
        for width, (excess, wide) in site.observe(name).overflow.items():
            if excess > 0:
                found.append(
                    Defect(
                        name, 0, f"at {width} px the page is {excess} px too wide; look at {wide}"
                    )
                )
    return found


def check_alt(site: Site) -> list[Defect]:
    """Report pictures without a description."""
    return [
        Defect(name, 0, f"a picture says nothing in words: {html}")
        for name in site.pages
        for html in site.observe(name).silent
    ]


# ---- planted defects ---------------------------------------------------------------------------


def a_table_wider_than_a_phone(folder: Path) -> str:
    return page(folder, f'<div style="width:{NARROW + 200}px">wide</div>')


def a_figure_wider_than_a_laptop(folder: Path) -> str:
    return page(folder, f'<div style="width:{WIDE + 100}px">wide</div>')


def an_image_without_alt(folder: Path) -> str:
    return page(folder, '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">')


def a_drawing_without_a_name(folder: Path) -> str:
    return page(folder, '<svg width="9" height="9"><path d="M0 0h9"/></svg>')


SCROLL_PLANTS = (a_table_wider_than_a_phone, a_figure_wider_than_a_laptop)
ALT_PLANTS = (an_image_without_alt, a_drawing_without_a_name)
