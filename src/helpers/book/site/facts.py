"""The role ``{fact}``: a figure of the catalog in a sentence, with its unit and where it is from.

``{fact}`h100-sxm.peak.bf16` `` prints the dense peak in the unit of the catalog;
``{fact}`h100-sxm.bandwidth in GB/s :,.0f` `` asks for a unit and a format.
"""

from __future__ import annotations

from docutils import nodes

#: the page with every chip's figures and their sources
CATALOG_PAGE = "chapters/silicon"


def _role(name, rawtext, text, lineno, inliner, options=None, content=None):
    from helpers.catalog import facts as catalog_facts

    try:
        fact = catalog_facts.read(text)
    except (LookupError, ValueError) as error:
        message = inliner.reporter.error(f"{{fact}}`{text}`: {error}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    env = inliner.document.settings.env
    uri = env.app.builder.get_relative_uri(env.docname, CATALOG_PAGE)
    # the title says where the figure is from; the page it leads to says more
    node = nodes.reference(
        rawtext, fact.text, refuri=uri, reftitle=fact.note, internal=True, classes=["mb-fact"]
    )
    return [node], []


def setup(app) -> None:
    app.add_role("fact", _role)
