"""A chapter keeps its number, whatever stands before it.

Sphinx counts the pages of a numbered part. While chapters are missing, that count is not the
number by which the book speaks of a chapter. A page says its own in its front matter,
``number: 6``.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes

FIELD = "number"


def renumber(env: Any) -> list[str]:
    """Give each numbered page the number of its front matter; return the pages changed.

    Raises
    ------
    ValueError
        A number that is no whole number above 0, or the same as another page's.
    """
    changed, pages = [], {}
    for name, numbers in env.toc_secnumbers.items():
        if not any(numbers.values()):
            continue
        counted = next(number for number in numbers.values() if number)[0]
        own = env.metadata.get(name, {}).get(FIELD, counted)
        if not str(own).isdecimal() or int(own) < 1:
            raise ValueError(f"{name}: {FIELD} is {own!r}; it must be a whole number, 1 or more")
        own = int(own)
        if own in pages:
            raise ValueError(f"{name}: {FIELD} is {own}, as in {pages[own]}; each page has its own")
        pages[own] = name
        if own == counted:
            continue
        changed.append(name)
        for anchor, number in numbers.items():
            numbers[anchor] = (own, *number[1:]) if number else number
        for numbered in env.toc_fignumbers.get(name, {}).values():  # tables and figures
            for anchor, number in numbered.items():
                numbered[anchor] = (own, *number[1:])
        for node in (env.titles[name], *env.tocs[name].findall(nodes.reference)):
            if node.get("secnumber"):
                node["secnumber"] = [own, *node["secnumber"][1:]]
    return changed


def setup(app) -> None:
    # after Sphinx has counted, which it does at the same event
    app.connect("env-get-updated", lambda app, env: renumber(env), priority=900)
