"""The command that makes the book's models: with a tiny recipe and a small text, end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from test_lm_training import SMALL, small_corpus

from helpers.__main__ import main
from helpers.lm import loading, recipes, text, training


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The command trains a tiny target on a text of this test; its assets lie in a folder apart."""
    corpus = small_corpus()
    config = replace(SMALL.config, context=96)
    recipe = replace(SMALL, config=config, steps=6)
    monkeypatch.setattr(recipes, "RECIPES", {"target": recipe})
    monkeypatch.setattr(training, "collect", lambda name: corpus)
    monkeypatch.setattr(text, "corpus", lambda: corpus)
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setattr(loading, "ASSETS", assets)
    threads = torch.get_num_threads()
    yield [
        "train",
        "target",
        "--folder",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    torch.set_num_threads(threads)


def test_the_command_ships_a_checkpoint_with_its_card_and_reproduces_it(small, tmp_path, capsys):
    assert main([*small, "--ship"]) == 0
    path = tmp_path / "assets" / "target.safetensors"
    card = json.loads(path.with_suffix(".json").read_text("utf-8"))
    model = loading.load("target")
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["tokens"] == 6 * 2 * 96
    assert [point[0] for point in card["curve"]] == [6]
    assert 0 < card["held_out_bits_per_byte"]["corpus"] < 30
    assert len(card["samples"]) == 4
    assert all(len(one["prompt"] + one["text"]) < 300 for one in card["samples"])
    capsys.readouterr()
    again = [part if part != str(tmp_path / "run") else str(tmp_path / "other") for part in small]
    assert main(again) == 0
    said = capsys.readouterr().out
    assert "the shipped one: +0.0000, within 0.03" in said
    assert (tmp_path / "other" / "target.safetensors").read_bytes() == path.read_bytes()


def test_the_command_goes_on_with_what_is_there(small, tmp_path, capsys):
    run = training.Run(recipes.RECIPES["target"], tmp_path / "run")
    run.advance()
    run.save()
    assert main(small) == 0
    assert "step 1 of 6" in capsys.readouterr().out


def test_trouble_is_one_line(small, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.pt").write_text("no")
    assert main(small) == 1
    said = capsys.readouterr().err
    assert said.startswith("moving-bytes train: ") and "is no saved run" in said
    with pytest.raises(SystemExit):
        main(["train", "giant"])
