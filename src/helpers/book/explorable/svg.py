"""Turn matplotlib's SVG into a picture that belongs to the page.

matplotlib writes fixed colours, its own fonts, ids that would clash and numbers to six places. Here
colours become the page's CSS variables (so that the figure follows light and dark), text takes the
page's font, ids go or get a prefix, and each mark's element is labelled ``data-m="<number>"`` so
that the script finds it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter

from helpers.book.explorable.marks import BLANK, MARK_ID
from helpers.book.style import INK

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"

#: matplotlib's colour -> the role it plays; of two roles with one colour the first
_ROLE = {colour: role for role, colour in reversed(INK.items())}

#: style properties that carry nothing where they have this value
_DEFAULTS = {"stroke-linejoin": "miter", "stroke-dashoffset": "0", "stroke-linecap": "butt"}


def clean(svg: str, prefix: str, label: str) -> str:
    """Clean one figure.

    Parameters
    ----------
    svg : str
        What matplotlib wrote.
    prefix : str
        Begins every id that has to stay; unique on a page.
    label : str
        The figure's alternative text.

    Returns
    -------
    str
        An ``<svg>`` element with marks labelled by ``data-m``.

    Raises
    ------
    ValueError
        If a colour is not in the book's palette, which would not follow the page's theme.
    """
    root = ET.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", svg))
    view = root.get("viewBox")
    _drop_boilerplate(root)
    _label_marks(root)
    _rename_clips(root, prefix)
    for element in root.iter():
        _restyle(element)
        _shorten(element)
    _drop_empty(root)
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": label})
    _say_once(root)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return re.sub(r' xmlns(:\w+)?="[^"]+"|\bns\d+:', "", text)


def mark_element(svg: str, number: int) -> ET.Element:
    """Return the element of a mark in a cleaned figure."""
    found = ET.fromstring(svg).find(f".//*[@data-m='{number}']")
    if found is None:
        raise ValueError(f"mark {number} is not in the picture at its first setting")
    return found


def _drop_boilerplate(root: ET.Element) -> None:
    """Remove metadata, the global style sheet, invisible text and tick marks of no length."""
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(parents):
        style = element.get("style", "")
        if (
            element.tag in (_SVG + "metadata", _SVG + "style")
            or (element.tag == _SVG + "text" and re.search(r"\bopacity: ?0(;|$)", style))
            or (element.tag == _SVG + "path" and re.fullmatch(r"M 0 0 L -?0 -?0", _flat(element)))
        ):
            parents[element].remove(element)
    kept = {element.get("id") for element in root.iter() if element.get("id")}
    for element in list(parents):
        if element.tag == _SVG + "use" and element.get(_HREF, "")[1:] not in kept:
            parents[element].remove(element)


def _flat(element: ET.Element) -> str:
    return " ".join(element.get("d", "").split())


def _label_marks(root: ET.Element) -> None:
    """Give each mark's one drawn element its number; a dot becomes a plain circle."""
    # equal dots share one outline, which only the first of them holds
    outlines = {"#" + path.get("id", ""): path for path in root.iter(_SVG + "path")}
    for group in root.iter(_SVG + "g"):
        name = group.get("id", "")
        if not name.startswith(MARK_ID):
            continue
        number = name.removeprefix(MARK_ID)
        use = group.find(f".//{_SVG}use")
        if use is not None:
            circle = _circle(use, outlines[use.get(_HREF, "")])
            clip = next((g.attrib for g in group.iter(_SVG + "g") if "clip-path" in g.attrib), {})
            group.attrib["clip-path"] = clip.get("clip-path", "")
            for child in list(group):
                group.remove(child)
            group.append(circle)
            shape = circle
            if not group.attrib["clip-path"]:
                del group.attrib["clip-path"]
        else:
            shape = group.find(f".//{_SVG}text")
            if shape is None:
                shape = group.find(f".//{_SVG}path")
            elif shape.text == BLANK:
                shape.text = None
        if shape is not None:
            shape.set("data-m", number)


def _circle(use: ET.Element, path: ET.Element) -> ET.Element:
    """Return a circle for matplotlib's round marker, whose outline starts at its lowest point."""
    radius = max(abs(float(number)) for number in re.findall(r"-?\d+\.?\d*", path.get("d")))
    attributes = {"cx": use.get("x"), "cy": use.get("y"), "r": f"{radius:g}"}
    return ET.Element(_SVG + "circle", {**attributes, "style": use.get("style", "")})


def _rename_clips(root: ET.Element, prefix: str) -> None:
    """Give clip paths ids that are ours; drop every other id."""
    new_ids: dict[str, str] = {}
    for clip in root.iter(_SVG + "clipPath"):
        new_ids[clip.get("id")] = f"{prefix}-{len(new_ids)}"
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if element.tag == _SVG + "clipPath":
            element.set("id", new_ids[old])
        if "clip-path" in element.attrib:
            target = element.get("clip-path").removeprefix("url(#").removesuffix(")")
            element.set("clip-path", f"url(#{new_ids[target]})")


def _restyle(element: ET.Element) -> None:
    """Rewrite a style attribute with CSS variables and the page's font."""
    old = element.attrib.pop("style", "")
    style = dict(re.findall(r"([\w-]+)\s*:\s*([^;]+)", old))
    for drop in ("font-family", "font-stretch", "font-variant"):
        style.pop(drop, None)
    for name in ("fill", "stroke"):
        colour = style.get(name)
        if colour == "none":
            del style[name]  # the style sheet fills and strokes nothing by default
        elif colour is not None:
            style[name] = f"var(--mb-{_role(colour)})"
    if element.tag == _SVG + "text" and style.get("fill") == "var(--mb-fg)":
        del style["fill"]
    if "stroke" not in style:
        style = {name: value for name, value in style.items() if not name.startswith("stroke-")}
    style = {name: value for name, value in style.items() if _DEFAULTS.get(name) != value.strip()}
    if style:
        element.set("style", ";".join(f"{name}:{value.strip()}" for name, value in style.items()))


def _role(colour: str) -> str:
    if colour.strip() not in _ROLE:
        raise ValueError(
            f"color: {colour.strip()!r} is not in the palette and would not follow dark mode; "
            f"allowed are INK[...] of {', '.join(INK)}"
        )
    return _ROLE[colour.strip()]


def _shorten(element: ET.Element) -> None:
    """Round coordinates to a hundredth of a pixel and drop rotations by nothing."""
    for name in ("d", "x", "y", "cx", "cy", "width", "height", "transform"):
        if name in element.attrib:
            short = re.sub(r"-?\d+\.\d+", lambda match: _hundredth(match[0]), element.get(name))
            short = " ".join(short.split())
            if name == "d":
                short = re.sub(r" ?([A-Za-z]) ?", r"\1", short)
            element.set(name, short)
    if element.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
        del element.attrib["transform"]
    if not (element.text or "").strip():
        element.text = None
    # SVG shows no text outside <text>. Where a page strips the tags, this keeps words apart.
    element.tail = ", " if element.tag == _SVG + "text" and element.text else None


def _say_once(root: ET.Element) -> None:
    """Move the font size that most texts share to the root, which hands it down."""
    texts = [element for element in root.iter(_SVG + "text") if "style" in element.attrib]
    sizes = Counter(
        found[0] for text in texts if (found := re.search(r"font-size:[^;]+", text.get("style")))
    )
    if not sizes:
        return
    size = sizes.most_common(1)[0][0]
    root.set("style", size)
    for text in texts:
        parts = [part for part in text.get("style").split(";") if part != size]
        if parts:
            text.set("style", ";".join(parts))
        else:
            del text.attrib["style"]


def _hundredth(number: str) -> str:
    short = f"{float(number):.2f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short


def _drop_empty(element: ET.Element) -> None:
    """Remove empty groups and unwrap groups that say nothing."""
    for child in list(element):
        _drop_empty(child)
    children: list[ET.Element] = []
    for child in list(element):
        if child.tag in (_SVG + "g", _SVG + "defs") and len(child) == 0:
            continue
        if child.tag == _SVG + "g" and not child.attrib:
            children += list(child)
        else:
            children.append(child)
    for child in list(element):
        element.remove(child)
    element.extend(children)
