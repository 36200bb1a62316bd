"""The order in which the chapters can be read, as a small drawing.

Drawn by hand as SVG, because a box with a chapter's name in it must wrap, follow the page's
colours, and stand upright on a phone. The page carries the same path as a list of links.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from helpers.book.style import tokens_css


@dataclass(frozen=True)
class Stop:
    """A chapter on the path: its lines of text, where it stands, and whether it is written."""

    lines: tuple[str, ...]
    wide: tuple[int, int]  # left, top in the wide drawing
    narrow: tuple[int, int]
    written: bool = False


#: every stop; the key is the chapter's number, 0 the two pages before the first chapter
STOPS: dict[int, Stop] = {
    0: Stop(("Two workloads,", "Units and traps"), (4, 84), (100, 4), written=True),
    1: Stop(("1 Roofline",), (122, 84), (100, 94), written=True),
    2: Stop(("2 Memory", "hierarchy"), (240, 84), (100, 184)),
    3: Stop(("3 Parallelism",), (386, 24), (4, 308)),
    4: Stop(("4 Mixed", "precision"), (504, 24), (4, 398)),
    5: Stop(("5 Quantization,", "pruning,", "distillation"), (386, 144), (200, 308)),
    6: Stop(("6 KV cache",), (504, 144), (200, 398), written=True),
    7: Stop(("7 Batching", "and serving"), (622, 144), (200, 488)),
    8: Stop(("8 Economics",), (622, 24), (100, 594)),
}

#: from, to, and whether the step may be skipped
STEPS: tuple[tuple[int, int, bool], ...] = (
    (0, 1, False),
    (1, 2, False),
    (2, 3, False),
    (3, 4, False),
    (4, 8, False),
    (2, 5, False),
    (1, 5, True),
    (5, 6, False),
    (6, 7, False),
    (7, 8, False),
)

_BOX = (104, 70)
_SMALL = ' class="small"'
_CSS = (
    ".mb-path{container-type:inline-size;color:var(--mb-fg);margin:1rem 0}"
    ".mb-path svg{display:block;width:100%;height:auto;font-size:13px}"
    ".mb-path .narrow{display:none;max-width:26rem;margin:auto}"
    "@container (max-width:560px){.mb-path .wide{display:none}.mb-path .narrow{display:block}}"
    ".mb-path rect{fill:var(--mb-bg);stroke:var(--mb-muted)}"
    ".mb-path .to-come rect{stroke-dasharray:5 4}"
    ".mb-path .written rect{stroke:var(--mb-c1);stroke-width:2.5}"
    ".mb-path text{fill:currentColor;text-anchor:middle}"
    ".mb-path .small{fill:var(--mb-muted);font-size:12px}"
    ".mb-path .lane{fill:var(--mb-c2);font-weight:600;text-anchor:start}"
    ".mb-path .step{fill:none;stroke:var(--mb-muted);stroke-width:1.5}"
    ".mb-path .aside{stroke-dasharray:2 4}"
    ".mb-path .head{fill:var(--mb-muted)}"
)
_ALT = (
    "A path through the book. Two workloads and Units and traps lead to chapter 1, Roofline, and "
    "on to 2, Memory hierarchy. There it branches. The training branch is 3, Parallelism, and 4, "
    "Mixed precision. The inference branch is 5, Quantization, pruning, distillation, 6, KV "
    "cache, and 7, Batching and serving; it can also be entered straight from chapter 1. Both "
    "end at 8, Economics. Written so far: the front pages, chapters 1 and 6."
)


def _box(stop: Stop, at: tuple[int, int]) -> str:
    (left, top), (width, height) = at, _BOX
    x = left + width / 2
    lines = stop.lines if stop.written else (*stop.lines, "to come")
    first = top + height / 2 + 4.5 - 8 * (len(lines) - 1)
    texts = "".join(
        f'<text{_SMALL if line == "to come" else ""} x="{x:g}" y="{first + 16 * i:g}">'
        f"{escape(line)}</text>"
        for i, line in enumerate(lines)
    )
    kind = "written" if stop.written else "to-come"
    rect = f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="7"/>'
    return f'<g class="{kind}">{rect}{texts}</g>'


def _arrow(points: list[tuple[float, float]], aside: bool) -> str:
    """A line through the points, or a curve when there are four, with a head at the end."""
    (x0, y0), (x1, y1) = points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    tail = (x1 - 8 * ux, y1 - 8 * uy)
    head = [(x1, y1), (tail[0] - 4 * uy, tail[1] + 4 * ux), (tail[0] + 4 * uy, tail[1] - 4 * ux)]
    body = [*points[:-1], tail]
    write = " ".join(f"{x:g} {y:g}" for x, y in body[1:])
    curve = "C" if len(body) == 4 else "L"
    return (
        f'<path class="step{" aside" if aside else ""}" '
        f'd="M{body[0][0]:g} {body[0][1]:g}{curve}{write}"/>'
        f'<path class="head" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in head)}Z"/>'
    )


def _route(
    start: tuple[int, int], end: tuple[int, int], upright: bool
) -> list[tuple[float, float]]:
    """Points from one box to the next: out of the far side, into the near side."""
    (w, h), (ax, ay), (bx, by) = _BOX, start, end
    if ax == bx:  # straight up or down
        out, into = (ay + h, by) if by > ay else (ay, by + h)
        return [(ax + w / 2, out), (bx + w / 2, into)]
    if upright:
        a, b = (ax + w / 2, ay + h), (bx + w / 2, by)
        bend = (b[1] - a[1]) / 2
        return [a, (a[0], a[1] + bend), (b[0], b[1] - bend), b]
    a, b = (ax + w, ay + h / 2), (bx, by + h / 2)
    if ay == by:
        return [a, b]
    bend = (b[0] - a[0]) / 2
    return [a, (a[0] + bend, a[1]), (b[0] - bend, b[1]), b]


def _short_cut(
    start: tuple[int, int], end: tuple[int, int], upright: bool
) -> list[tuple[float, float]]:
    """From 1 to 5, round box 2."""
    (w, h), (ax, ay), (bx, by) = _BOX, start, end
    if upright:
        side, x = ay + h / 2, bx + w - 20
        return [(ax + w, side), (x + 5, side), (x, side + 70), (x, by)]
    x, side = ax + w / 2, by + h - 18
    return [(x, ay + h), (x, side), (x + 70, side), (bx, side)]


def _svg(kind: str) -> str:
    upright = kind == "narrow"
    at = {key: getattr(stop, kind) for key, stop in STOPS.items()}
    parts = []
    for start, end, aside in STEPS:
        route = _route(at[start], at[end], upright)
        if (start, end) == (1, 5):
            route = _short_cut(at[1], at[5], upright)
        parts.append(_arrow(route, aside))
    lanes = (
        {"Training": (0, 300), "Inference": (180, 300)}
        if upright
        else {"Training": (386, 16), "Inference": (386, 232)}
    )
    parts += [f'<text class="lane" x="{x}" y="{y}">{name}</text>' for name, (x, y) in lanes.items()]
    parts += [_box(stop, at[key]) for key, stop in STOPS.items()]
    size = "0 0 308 668" if upright else "0 0 730 240"
    label = f'class="{kind}" viewBox="{size}" role="img" aria-label="{escape(_ALT)}"'
    return f"<svg {label}>{''.join(parts)}</svg>"


class LearningPath:
    """The drawing; shows itself in a notebook and on the page.

    Examples
    --------
    >>> "8 Economics" in LearningPath()._repr_html_()
    True
    """

    def _repr_html_(self) -> str:
        style = f'<style data-mb="path">{tokens_css()}{_CSS}</style>'
        return f'{style}<div class="mb mb-path">{_svg("wide")}{_svg("narrow")}</div>'

    def __repr__(self) -> str:
        return _ALT
