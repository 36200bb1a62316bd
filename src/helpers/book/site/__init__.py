"""The Sphinx extension that turns Jupyter Book's output into this book's site.

``math`` writes formulas as MathML, ``facts`` puts catalog figures into prose, ``assets`` keeps
the first view light, ``numbering`` lets a chapter keep its number, ``pages`` mends and completes
each page, ``shared`` moves code that many pages share into files.
"""

from __future__ import annotations


def setup(app):
    """Register the parts; called by Sphinx."""
    from helpers import __version__
    from helpers.book.site import assets, facts, math, math_font, numbering, pages, shared

    for part in (math, math_font, facts, numbering, assets, pages, shared):
        part.setup(app)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
