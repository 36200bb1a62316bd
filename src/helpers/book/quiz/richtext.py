r"""The little markup of our data files, as HTML: ``$x$``, ``**bold**``, ``*emphasis*``, code.

Everything else is text and is escaped, so that a question cannot bring a script along.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from helpers.book.mathml import to_mathml

_MARKS = re.compile(
    r"""(?P<escaped>\\[$*`\\])
      | `(?P<code>[^`]+)`
      | \$(?P<math>[^\s$](?:[^$]*[^\s$])?)\$
      | \*\*(?P<bold>\S(?:.*?\S)?)\*\*
      | (?<![\w*])\*(?P<em>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])""",
    re.VERBOSE | re.DOTALL,
)


def inline(text: str) -> str:
    r"""Render one run of text.

    Raises
    ------
    ValueError
        If a dollar sign is left over (a literal one is written ``\$``), or LaTeX cannot be read.

    Examples
    --------
    >>> inline("**2** < 3 & `a*b`")
    '<b>2</b> &lt; 3 &amp; <code>a*b</code>'
    >>> inline("<script>alert(1)</script>")
    '&lt;script&gt;alert(1)&lt;/script&gt;'
    """
    return _render(
        text,
        plain=lambda run: html.escape(run, quote=False),
        code=lambda run: f"<code>{html.escape(run, quote=False)}</code>",
        math=to_mathml,
        bold="<b>{}</b>",
        em="<em>{}</em>",
    )


def paragraphs(text: str) -> str:
    """Render text whose blank lines separate paragraphs, as phrasing content.

    Examples
    --------
    >>> paragraphs("one\\n\\ntwo")
    'one<br><br>two'
    """
    return "<br><br>".join(
        inline(" ".join(part.split())) for part in re.split(r"\n\s*\n", text.strip())
    )


def as_plain(text: str) -> str:
    """The text without its marks, for places that take no markup; LaTeX stays as written."""
    return _render(text, plain=str, code=str, math=str, bold="{}", em="{}")


def _render(
    text: str,
    plain: Callable[[str], str],
    code: Callable[[str], str],
    math: Callable[[str], str],
    bold: str,
    em: str,
) -> str:
    out: list[str] = []
    position = 0

    def again(run: str) -> str:
        return _render(run, plain, code, math, bold, em)

    for match in _MARKS.finditer(text):
        out.append(_literal(text[position : match.start()], plain))
        position = match.end()
        kind, run = match.lastgroup, match[match.lastgroup]
        if kind == "escaped":
            out.append(plain(run[1]))
        elif kind == "code":
            out.append(code(run))
        elif kind == "math":
            out.append(math(run))
        else:
            out.append((bold if kind == "bold" else em).format("{}").replace("{}", again(run)))
    out.append(_literal(text[position:], plain))
    return "".join(out)


def _literal(run: str, plain: Callable[[str], str]) -> str:
    if "$" in run:
        raise ValueError(
            f"a lone dollar sign in {run.strip()[:60]!r}; write $...$ around a formula without a "
            r"space at its ends, or \$ for the sign itself"
        )
    return plain(run)
