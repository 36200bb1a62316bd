"""Formulas of the prose as MathML, written when the site is built."""

from __future__ import annotations

from docutils import nodes

from helpers.book.mathml import to_mathml


def _inline(translator, node):
    translator.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def _display(translator, node):
    translator.body.append(
        translator.starttag(node, "div", CLASS="math", tabindex="0", role="math")
    )
    translator.body.append(to_mathml(node.astext(), display=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
