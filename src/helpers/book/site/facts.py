"""The role ``{fact}``: a figure of the catalog in a sentence, with its unit and where it is from.

``{fact}`h100-sxm.peak.bf16` `` prints the dense peak in the unit of the catalog;
``{fact}`h100-sxm.bandwidth in GB/s :,.0f` `` asks for a unit and a format.
"""

from __future__ import annotations

from html import escape

from docutils import nodes

#: the page on which every chip has a row of its own, with its sources
CATALOG_PAGE = "chapters/silicon"


def _role(name, rawtext, text, lineno, inliner, options=None, content=None):
    from helpers.catalog import facts as catalog_facts

    try:
        fact = catalog_facts.read(text)
    except (LookupError, ValueError) as error:
        message = inliner.reporter.error(f"{{fact}}`{text}`: {error}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    node = nodes.inline(rawtext, fact.text, classes=["mb-fact"])
    node["mb_title"] = fact.note
    return [node], []


def _visit_inline(translator, node):
    if "mb_title" in node:
        translator.body.append(
            f'<span class="mb-fact" title="{escape(node["mb_title"], quote=True)}">'
        )
    else:
        translator.body.append(translator.starttag(node, "span", ""))


def setup(app) -> None:
    app.add_role("fact", _role)
