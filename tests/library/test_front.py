"""The front pages: the first live figure, the learning path, the glossary, and known numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from helpers.book.figures.front import CHIPS, MODELS, one_token
from helpers.book.figures.learning_path import STEPS, STOPS, LearningPath

ROOT = Path(__file__).resolve().parents[2]


# --- the first live figure ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "rate", "idle", "who"),
    [
        # 3.35e12 / (8,030,261,248 * 2); 1 - (2 / 989.4e12) / (2 / 3.35e12)
        (dict(model="Llama 3.1 8B", users=1, bits=16), 208.6, 0.9966, "arithmetic"),
        # 3.35e12 / (70,553,706,496 / 2), on one chip
        (dict(model="Llama 3.1 70B", users=1, bits=4), 94.96, 0.98646, "arithmetic"),
        # 989.4e12 / (2 * 8,030,261,248 * 1024)
        (dict(model="Llama 3.1 8B", users=1024, bits=16), 60.16, 0.7116, "memory"),
    ],
)
def test_one_token_says_what_is_counted_by_hand(setting, rate, idle, who):
    said = one_token.python(chip="H100 SXM", **setting).readout
    assert f"{rate:,.0f} tokens/s" in said
    assert f"{idle:.1%} of the time the {who} waits" in said


def test_one_token_spreads_what_does_not_fit():
    said = one_token.python(model="Llama 3.1 405B", chip="H100 SXM", users=1, bits=16).readout
    assert "need 11 chips" in said  # 811.7 GB over 80 GB
    assert "chips" not in one_token.python(chip="H100 SXM").readout


def test_one_token_offers_chips_that_have_what_it_needs():
    assert all(chip["peak"] > 0 and chip["bandwidth"] > 0 for chip in CHIPS.values())
    assert MODELS["Llama 3.1 8B"]["size"] == 8_030_261_248


# --- the learning path --------------------------------------------------------------------------


def drawings() -> list[ET.Element]:
    html = LearningPath()._repr_html_()
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html)]


def test_both_drawings_show_the_same_boxes_and_no_ids():
    texts = [sorted(e.text for e in svg.iter("text")) for svg in drawings()]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    assert not [e for svg in drawings() for e in svg.iter() if e.get("id")]
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in drawings())


def test_boxes_do_not_overlap_and_stand_inside():
    for svg in drawings():
        _, _, width, height = map(float, svg.get("viewBox").split())
        boxes = [
            tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in svg.iter("rect")
        ]
        assert len(boxes) == len(STOPS)
        for i, (x, y, w, h) in enumerate(boxes):
            assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
            for a, b, c, d in boxes[:i]:
                assert x + w <= a or a + c <= x or y + h <= b or b + d <= y


def test_every_stop_is_reached_and_the_last_is_the_goal():
    assert {end for _, end, _ in STEPS} == set(STOPS) - {0}
    assert {start for start, _, _ in STEPS} == set(STOPS) - {8}


def test_the_path_marks_as_written_what_is_written():
    landing = (ROOT / "index.md").read_text("utf-8")
    for number, stop in STOPS.items():
        if number:
            name = re.sub(r"^\d ", "", " ".join(stop.lines))
            line = next(row for row in landing.splitlines() if row.startswith(f"{number}. **["))
            assert name in line, f"index.md does not list {name} as question {number}"
            assert ("*(to come)*" in line) != stop.written


# --- the glossary -------------------------------------------------------------------------------


def test_the_glossary_page_is_what_the_catalog_gives():
    done = subprocess.run(
        [sys.executable, "tools/glossary.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_changed_glossary_is_noticed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import glossary

    page = tmp_path / "glossary.md"
    page.write_text(glossary.page().replace("accelerator", "excelerator"), "utf-8")
    monkeypatch.setattr(glossary, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["glossary.py", "--check"])
    assert glossary.main() == 1
    monkeypatch.setattr(sys, "argv", ["glossary.py"])
    monkeypatch.setattr(glossary, "ROOT", tmp_path)
    assert glossary.main() == 0
    assert page.read_text("utf-8") == glossary.page()


# --- numbers known from elsewhere ---------------------------------------------------------------


def glued(notebook: str) -> dict[str, str]:
    """The stored values of a notebook of the front pages, without quotes."""
    cells = json.loads((ROOT / "notebooks" / "front" / f"{notebook}.ipynb").read_text("utf-8"))
    found = {}
    for cell in cells["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                text = next(v for k, v in output["data"].items() if k.endswith("text/plain"))
                found[name] = "".join(text).strip("'").replace("\\xa0", " ").replace("\xa0", " ")
    return found


@pytest.mark.parametrize(
    ("notebook", "key", "text"),
    [
        ("landing", "roofline_rate", "209 tokens/s"),  # 3.35e12 / 16,060,522,496
        ("landing", "kv_session", "42.9 GB"),  # 327,680 B * 131,072
        ("landing", "scores", "68.7 GB"),  # 32 * 32,768 ** 2 * 2
        ("landing", "state_bits", "128 bits"),  # 2 + 2 + 4 + 4 + 4 bytes
        ("two-workloads", "kv_token", "128 KiB"),  # 2 * 32 * 8 * 128 * 2 B
        ("two-workloads", "lora_params", "41.9 million"),  # 16 * 81,920 * 32
        ("two-workloads", "qlora_bits", "4.13 bits"),  # 4 + 8/64 + 32/(64 * 256)
        ("two-workloads", "spec_tokens", "3.36"),  # (1 - 0.8 ** 5) / 0.2
        ("two-workloads", "train_implied_mfu", "14%"),  # 7.23e23 / (1.46e6 h * 3600 * 989.4e12)
        ("units", "kv_right_gib", "80 GiB"),  # 320 KiB * 8,192 * 32
        ("units", "nvlink_measured", "228 GB/s"),  # 1.5 * 2 ** 31 / 14.152 ms
        ("units", "nvl72_gpu", "10 PFLOP/s"),
    ],
)
def test_stored_numbers_are_those_known_from_elsewhere(notebook, key, text):
    assert glued(notebook)[key] == text
