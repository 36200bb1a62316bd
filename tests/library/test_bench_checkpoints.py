"""The command that makes the book's models: with a tiny recipe and a small text, end to end."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from test_lm_training import SMALL, small_corpus  # noqa: E402

from helpers.__main__ import main  # noqa: E402
from helpers.bench import checkpoints  # noqa: E402
from helpers.lm import datacard, evaluate, loading, recipes, text, tokenizer, training  # noqa: E402


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The command trains a tiny target on a text of this test; its assets lie in a folder apart."""
    corpus = small_corpus()
    # as many bits of another text are held out of each, so that they cannot be taken for each other
    other = replace(corpus, held_out=corpus.train[:2])
    config = replace(SMALL.config, context=96)
    recipe = replace(SMALL, config=config, steps=6)
    names = replace(recipe, text="names")
    monkeypatch.setattr(recipes, "RECIPES", {"target": recipe, "stranger": names})
    monkeypatch.setattr(training, "collect", lambda name: corpus if name == "corpus" else other)
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
    held_out = small_corpus().held_out
    measured = evaluate.bits_per_byte(model, held_out, tokenizer.load())  # of the rounded weights
    assert card["held_out_bits_per_byte"] == {"corpus": round(measured, 4)}
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["text"]["train_sha256"] == datacard.fingerprint(small_corpus().train)
    assert card["teacher_sha256"] is None
    assert len(card["samples"]) == 4
    assert all(len(one["prompt"] + one["text"]) < 300 for one in card["samples"])
    capsys.readouterr()
    again = [part if part != str(tmp_path / "run") else str(tmp_path / "other") for part in small]
    assert main(again) == 0
    said = capsys.readouterr().out
    assert "the shipped one: +0.0000, within 0.03" in said
    assert "another text than the data card's" in said  # this test's own
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


def test_a_result_far_from_the_shipped_one_is_said_to_be(small, tmp_path, capsys):
    (tmp_path / "assets" / "target.json").write_text('{"held_out_bits_per_byte": {"corpus": 9.0}}')
    assert main(small) == 0
    assert "NOT within 0.03" in capsys.readouterr().out


def test_the_stranger_is_measured_on_its_own_text_too(small, tmp_path):
    small[1] = "stranger"
    assert main([*small, "--ship"]) == 0
    card = json.loads((tmp_path / "assets" / "stranger.json").read_text("utf-8"))
    model, coder = loading.load("stranger"), tokenizer.load()
    assert card["held_out_bits_per_byte"] == {
        "corpus": round(evaluate.bits_per_byte(model, small_corpus().held_out, coder), 4),
        "names": round(evaluate.bits_per_byte(model, small_corpus().train[:2], coder), 4),
    }


def test_nothing_is_shipped_before_the_card_is_there(small, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no card")

    monkeypatch.setattr(checkpoints, "card", broken)
    assert main([*small, "--ship"]) == 1
    assert not list((tmp_path / "assets").iterdir())


def test_an_unfinished_run_gets_no_card(small, tmp_path):
    run = training.Run(recipes.RECIPES["target"], tmp_path / "run")
    run.advance()
    with pytest.raises(ValueError, match="at step 1 of 6"):
        checkpoints.card(run, "target", tmp_path / "x.safetensors", "cpu")


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--threads", "-1"], "not 1 or more"), (["--device", "cuda"], "torch finds no GPU here")],
)
def test_a_wrong_option_is_one_line(small, more, said, capsys):
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    try:
        assert main([*small, *more]) == 1
    except SystemExit as stop:
        assert stop.code == 2
    assert said in capsys.readouterr().err


NAMES = ("target", "draft", "stranger")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_card_describes_its_checkpoint_and_a_finished_run(name):
    card = json.loads((loading.ASSETS / f"{name}.json").read_text("utf-8"))
    path = loading.ASSETS / f"{name}.safetensors"
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["recipe"] == json.loads(json.dumps(recipes.RECIPES[name].to_dict()))
    assert card["curve"][-1][0] == card["recipe"]["steps"]
    assert card["tokens"] == recipes.RECIPES[name].tokens
    assert card["parameters"] == sum(p.numel() for p in loading.load(name).parameters())
    assert all(len(one["prompt"] + one["text"]) < 300 for one in card["samples"])
    if name == "draft":
        assert card["teacher_sha256"] == training.weights_fingerprint(loading.load("target"))


def test_the_shipped_files_are_small():
    assert sum(p.stat().st_size for p in loading.ASSETS.glob("*.safetensors")) <= 30e6
