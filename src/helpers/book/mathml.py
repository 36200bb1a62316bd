"""LaTeX to MathML at build time: no script, no font, no wait."""

from __future__ import annotations

import html
import re
from functools import cache
from xml.etree import ElementTree

#: how many parts each construction has; the converter lets a missing one pass
_PARTS = {"mfrac": 2, "msup": 2, "msub": 2, "msubsup": 3, "mroot": 2, "mover": 2, "munder": 2}


#: a row around a single sign says nothing
_ROW_OF_ONE = re.compile(r"<mrow>(<m([ion])(?: [^>]*)?>[^<]*</m\2>)</mrow>")

#: a named function, perhaps with a base, and what stands right before and right behind it
_FUNCTION = re.compile(
    r"(?P<before></m[in]>)?"
    r"(?P<name><msub><mi>log</mi>.*?</msub>|<mi>(?:ln|log|exp|max|min)</mi>)"
    r"(?P<behind>(?=<m(?!o)))?"
)
_THIN = '<mspace width="0.167em"/>'


def _thin_spaces(match: re.Match[str]) -> str:
    """A function is set apart from what it is multiplied with, and from a bare argument."""
    before = match["before"] + _THIN if match["before"] else ""
    return before + match["name"] + (_THIN if match["behind"] is not None else "")


def _fault(latex: str, element: str) -> str:
    """What is wrong with a formula that the converter accepted, or nothing."""
    if latex.replace(r"\{", "").count("{") != latex.replace(r"\}", "").count("}"):
        return "has braces that do not pair"
    if "\\" in element:
        return f"uses {element[element.index(chr(92)) :].split('<')[0]}, which is not known"
    for node in ElementTree.fromstring(element).iter():
        name = node.tag.split("}")[-1]
        if name in _PARTS and len(node) != _PARTS[name]:
            return f"has a {name} with {len(node)} instead of {_PARTS[name]} parts"
    return ""


@cache
def to_mathml(latex: str, display: bool = False) -> str:
    r"""Render a LaTeX formula as a MathML element that every current browser draws itself.

    Parameters
    ----------
    latex : str
        The formula without dollar signs.
    display : bool
        On a line of its own (True) or within the text (False).

    Returns
    -------
    str
        A ``<math>`` element whose ``alttext`` is the LaTeX.

    Raises
    ------
    ValueError
        If the LaTeX cannot be read; the message shows it.

    Examples
    --------
    >>> to_mathml(r"\frac{F}{B}").startswith('<math')
    True

    A function's name does not run into its argument:

    >>> 'ln</mi><mspace width="0.167em"/><mi>V' in to_mathml(r"\ln V")
    True
    >>> "mspace" in to_mathml(r"\max(a, b)")
    False
    """
    # imported here: the notebooks that show no formula should not need the converter
    from latex2mathml.converter import convert

    try:
        element = convert(latex, display="block" if display else "inline")
    except Exception as error:
        raise ValueError(f"latex: cannot turn {latex!r} into MathML ({error})") from error
    fault = _fault(latex, element)
    if fault:
        raise ValueError(f"latex: {latex!r} {fault}")
    element = _ROW_OF_ONE.sub(r"\1", element).replace(' display="inline"', "")
    element = _FUNCTION.sub(_thin_spaces, element)
    alt = html.escape(latex, quote=True)
    return element.replace("<math ", f'<math alttext="{alt}" ', 1).replace(
        ' xmlns="http://www.w3.org/1998/Math/MathML"', "", 1
    )
