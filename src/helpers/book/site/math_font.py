"""A mathematics font of some 30 kB, cut from STIX Two Math when the site is built.

MathML needs a font with a mathematics table for tall brackets and roots, and not every system
has one. The package ziamath brings STIX Two Math (SIL Open Font License); the characters that
the book's formulas use, with their tall variants, are all that the pages have to load.
"""

from __future__ import annotations

import string
from pathlib import Path

#: letters and signs of formulas; Greek, operators, arrows, italic and script alphabets
CHARACTERS = (
    string.printable
    + "".join(map(chr, range(0x391, 0x3CA)))
    + "·×÷±−∓∗∘√∞∂∇∑∏∫∈∉∝≈≅≡≠≤≥≪≫→←↔⇒⌈⌉⌊⌋⟨⟩…⋯⋅′∣∥∧∨¬ℓ\u2061\u2062\u2063\u2062⏟⏞̂̄"
    + "".join(map(chr, range(0x1D434, 0x1D468)))  # italic Latin
    + "ℎ"
    + "".join(map(chr, range(0x1D6FC, 0x1D71C)))  # italic Greek
)

FILE_NAME = "math.woff"


def write_subset(target: Path) -> None:
    """Cut the font and write it to ``target`` as WOFF.

    Raises
    ------
    FileNotFoundError
        If ziamath does not ship the font any more.
    """
    import ziamath
    from fontTools import subset

    source = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    if not source.is_file():
        raise FileNotFoundError(f"{source}: ziamath no longer ships STIX Two Math")
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True, hinting=False)
    options.drop_tables += ["DSIG", "GPOS"]
    font = subset.load_font(str(source), options)
    cutter = subset.Subsetter(options)
    cutter.populate(text=CHARACTERS)
    cutter.subset(font)
    scratch = target.with_suffix(".part")
    subset.save_font(font, str(scratch), options)
    scratch.replace(target)


def _write(app, exception) -> None:
    target = Path(app.outdir) / "_static" / FILE_NAME
    if exception is None and app.builder.name in ("html", "dirhtml") and not target.exists():
        write_subset(target)


def setup(app) -> None:
    app.connect("build-finished", _write)
