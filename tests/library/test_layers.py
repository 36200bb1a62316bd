"""An import in the library only ever points down the list in its docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import helpers

SOURCE = Path(helpers.__file__).parent
#: package -> its height; claims and bench stand side by side
LINES = [
    re.match(r" {4}(\w+(?:  \w+)*) {2,}", line) for line in (helpers.__doc__ or "").splitlines()
]
LEVELS = {
    name: -height for height, line in enumerate(LINES) if line for name in line[1].split("  ")
}
#: what the lowest layers never load
HEAVY = {"torch", "matplotlib", "ipywidgets", "transformers", "tokenizers", "safetensors"}


def imported(source: str, module: str) -> set[str]:
    """All modules that a file names in imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{name.name}" for name in node.names}
    return found


def upward(source: str, module: str) -> list[str]:
    """The imports of a file that point up or sideways."""
    own = module.split(".")[1]
    others = {name.split(".")[1] for name in imported(source, module) if "helpers." in name}
    return sorted(
        other for other in others & set(LEVELS) if other != own and LEVELS[other] >= LEVELS[own]
    )


FILES = {
    ".".join(("helpers", *path.relative_to(SOURCE).with_suffix("").parts)): path
    for path in sorted(SOURCE.rglob("*.py"))
    if path.parent != SOURCE
}


def test_the_docstring_lists_every_package():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert set(LEVELS) == packages
    assert LEVELS["book"] > LEVELS["bench"] == LEVELS["claims"] > LEVELS["serve"] > LEVELS["lm"]
    assert LEVELS["lm"] > LEVELS["kernels"] > LEVELS["formulas"] > LEVELS["catalog"]


@pytest.mark.parametrize("package", LEVELS)
def test_imports_point_down(package):
    found = {
        module: bad
        for module, path in FILES.items()
        if module.startswith(f"helpers.{package}.")
        and (bad := upward(path.read_text("utf-8"), module))
    }
    assert not found


def test_an_import_that_points_up_is_found():
    assert upward("def f():\n    from helpers.book import style", "helpers.lm.text") == ["book"]
    assert upward("from helpers import serve, catalog", "helpers.lm.text") == ["serve"]
    assert upward("from ..serve.cache import PagedCache", "helpers.lm.text") == ["serve"]
    assert upward("import helpers.claims.roofline", "helpers.bench.probe") == ["claims"]
    assert upward("from .config import ModelConfig", "helpers.lm.text") == []


@pytest.mark.parametrize("package", ["catalog", "formulas"])
def test_the_lowest_layers_load_nothing_heavy(package):
    for module, path in FILES.items():
        if module.startswith(f"helpers.{package}."):
            named = {name.split(".")[0] for name in imported(path.read_text("utf-8"), module)}
            assert not named & HEAVY, module


def test_the_library_never_loads_transformers():
    for module, path in FILES.items():
        if not module.startswith("helpers.bench."):  # which measures it
            assert "transformers" not in imported(path.read_text("utf-8"), module), module
