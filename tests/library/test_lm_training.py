"""Training: the batches, the schedule, and that a killed run ends like one that was not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from helpers.lm import arithmetic, optimizers, training
from helpers.lm.optimizers import build, learning_rate_factor
from helpers.lm.recipes import RECIPES, Recipe
from helpers.lm.text import Corpus, Document
from helpers.lm.windows import Windows

SMALL = Recipe(
    tiny.config(vocab=4096, context=32), "corpus", steps=12, windows=2, learning_rate=0.01
)


def small_corpus() -> Corpus:
    """A few hundred tokens of text that this test makes."""
    lines = [f"def number_{n}():\n    return {n * n}\n" for n in range(60)]
    documents = tuple(
        Document(f"d{n}", "".join(lines[n : n + 15]), "source") for n in range(0, 60, 5)
    )
    return Corpus(train=documents[:-2], validation=documents[-2:-1], held_out=documents[-1:])


# ---- windows ------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(1, 500), max_size=40), min_size=1, max_size=8),
    st.integers(1, 17),
    st.integers(0, 99),
)
def test_an_epoch_shows_each_token_at_most_once_and_leaves_less_than_a_window(rows, length, seed):
    total = sum(map(len, rows)) + len(rows)
    if total - 1 < length:
        with pytest.raises(ValueError, match="length"):
            Windows(rows, length, end=0, seed=seed)
        return
    windows = Windows(rows, length, end=0, seed=seed)
    taken = windows.take(0, windows.per_epoch)
    inputs = Counter(taken[:, :-1].ravel().tolist())
    there = Counter(token for row in rows for token in [0, *row])
    assert not inputs - there
    assert total - inputs.total() <= length
    assert taken.shape == (windows.per_epoch, length + 1)


def test_windows_depend_on_seed_and_number_only():
    rows = [list(range(1, 90)), list(range(100, 150)), [7] * 30]
    one, other = (Windows(rows, 8, end=0, seed=3) for _ in range(2))
    far = one.take(60, 5)
    other.take(0, 50)
    assert np.array_equal(far, other.take(60, 5))
    assert not np.array_equal(far, Windows(rows, 8, end=0, seed=4).take(60, 5))
    epochs = [one.take(e * one.per_epoch, one.per_epoch) for e in range(2)]
    assert not np.array_equal(*epochs)


def test_the_windows_of_an_epoch_come_in_no_order():
    taken = Windows([list(range(1, 1000))], 10, end=0).take(0, 99)
    firsts = taken[:, 0].tolist()
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))
    rising = sum(b > a for a, b in pairwise(firsts))
    assert 25 < rising < 75


def test_inputs_and_targets_are_neighbours_in_the_text():
    rows = [list(range(1, 200))]
    taken = Windows(rows, 16, end=0).take(0, 12)
    steps = taken[:, 1:] - taken[:, :-1]
    # but where the row wraps round through the end token
    assert ((steps == 1) | (taken[:, 1:] == 0) | (taken[:, :-1] == 0)).all()


# ---- schedule, loss, optimizers -----------------------------------------------------------------


def test_the_steady_part_of_the_schedule_does_not_know_how_long_the_run_is():
    short, long = ([learning_rate_factor(s, n) for s in range(60)] for n in (100, 1000))
    assert short == long
    assert learning_rate_factor(999, 1000) == pytest.approx(1 / 400)
    with pytest.raises(ValueError, match="step is 100"):
        learning_rate_factor(100, 100)


def test_distillation_loss_is_the_divergence_and_zero_at_the_teacher():
    draw = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 2, 3, 11, generator=draw, dtype=torch.float64)
    targets = torch.zeros(2, 3, dtype=torch.long)
    p, q = (x.reshape(-1, 11).softmax(-1) for x in (teacher, student))
    expected = (p * (p / q).log()).sum(-1).mean()
    assert training.next_token_loss(student, targets, teacher).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    assert training.next_token_loss(teacher, targets, teacher).item() == pytest.approx(0, abs=1e-6)


def test_each_weight_has_exactly_one_optimizer():
    model = tiny.model(dtype=torch.float32, tied_embeddings=True)
    held = [id(p) for o in build(model, 0.01, 0.1) for g in o.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_matrices_inside_layers_go_to_muon_norms_are_not_decayed():
    model = tiny.model(dtype=torch.float32)
    muon, adamw = build(model, 0.01, 0.1)
    assert isinstance(muon, torch.optim.Muon)
    assert all(p.dim() == 2 for g in muon.param_groups for p in g["params"])
    assert [g["adjust_lr_fn"] for g in muon.param_groups] == ["match_rms_adamw"]
    decay = {p.dim(): g["weight_decay"] for g in adamw.param_groups for p in g["params"]}
    assert decay == {2: 0.1, 1: 0.0}


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_chosen_where_the_processor_has_it(monkeypatch, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has})
    cpu = torch.device("cpu")
    assert arithmetic.fast_dtype(cpu) is (torch.bfloat16 if has else torch.float32)
    with arithmetic.fast_arithmetic(cpu):
        product = torch.ones(3, 5) @ torch.ones(5, 3)
    assert product.dtype is arithmetic.fast_dtype(cpu)
    muon, _ = build(tiny.model(dtype=torch.float32), 0.01, 0.1)
    assert type(muon) is (torch.optim.Muon if has else optimizers.Float32Muon)


def test_an_old_torch_that_cannot_say_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert arithmetic.fast_dtype(torch.device("cpu")) is torch.float32


@pytest.mark.parametrize("shape", [(37, 53), (53, 37), (1, 9)])
def test_orthogonal_keeps_the_vectors_and_levels_the_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ optimizers.orthogonal(matrix) @ v.T
    values = inside.diagonal()
    assert (values > 0.67).all() and (values < 1.33).all()
    assert (inside - values.diag()).abs().max() < 1e-9


@pytest.mark.parametrize("shape", [(31, 53), (53, 31)])
def test_muon_in_float32_is_torch_s(monkeypatch, shape):
    draw = torch.Generator().manual_seed(3)
    start = torch.randn(shape, generator=draw)
    grads = [torch.randn(shape, generator=draw) for _ in range(4)]
    ends = []
    for kind in (optimizers.Float32Muon, torch.optim.Muon):
        weight = torch.nn.Parameter(start.clone())
        muon = kind([weight], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # no rounding
            for grad in grads:
                weight.grad = grad.clone()
                muon.step()
        ends.append(weight.detach())
    assert (ends[0] - start).abs().max() > 0.1
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)


def test_long_windows_begin_with_the_cool_down():
    recipe = replace(SMALL, steps=10, cool_down=0.4)
    assert [recipe.length(step) for step in range(10)] == [16] * 6 + [32] * 4
    never = replace(SMALL, steps=10, cool_down=0.0)
    assert {never.length(step) for step in range(10)} == {16}


def test_a_recipe_of_the_book_counts_what_it_shows():
    for recipe in RECIPES.values():
        shown = sum(recipe.windows * recipe.config.context for _ in range(recipe.steps))
        assert recipe.tokens == shown
        assert {recipe.length(0), recipe.length(recipe.steps - 1)} == {512, 1024}
    assert RECIPES["draft"].config == RECIPES["stranger"].config
    assert RECIPES["draft"].config.vocab == RECIPES["target"].config.vocab


@pytest.mark.parametrize(
    ("field", "value"), [("text", "novels"), ("steps", 0), ("windows", -1), ("cool_down", 1.5)]
)
def test_a_wrong_recipe_names_its_field(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        replace(SMALL, **{field: value})


# ---- runs ---------------------------------------------------------------------------------------


def test_training_starts_at_ln_v_and_learns(tmp_path):
    run = training.Run(replace(SMALL, steps=40), tmp_path, corpus=small_corpus())
    before = run.validation.bits_per_byte(run.model)
    first = run.advance()
    assert first == pytest.approx(math.log(4096), rel=0.03)
    lines = []
    run.finish(measure_every=10, tell=lines.append)
    assert [point[0] for point in run.curve] == [10, 20, 30, 40] and len(lines) == 4
    assert run.curve[-1][1] < 0.8 * first
    assert run.curve[-1][2] < 0.8 * before


def test_each_step_runs_at_its_own_learning_rate(tmp_path):
    recipe = replace(SMALL, steps=60, cool_down=0.2)
    run = training.Run(recipe, tmp_path, corpus=small_corpus())
    rates = []
    for _ in range(recipe.steps):
        run.advance()
        rates.append({g["lr"] for o in run.optimizers for g in o.param_groups})
    assert all(len(seen) == 1 for seen in rates)
    wanted = [
        recipe.learning_rate * min(1, (s + 1) / 40, (60 - s) / 12) for s in range(recipe.steps)
    ]
    assert [seen.pop() for seen in rates] == pytest.approx(wanted)


def test_validation_counts_the_bytes_of_what_is_predicted(tmp_path):
    corpus = small_corpus()
    run = training.Run(SMALL, tmp_path, corpus=corpus)
    coder = training.tokenizer.load()
    predicted = [t for row in run.validation.rows[:, 1:].tolist() for t in row]
    text = b"".join(coder.token_bytes(t) for t in predicted if t != coder.end)
    assert run.validation.bytes == len(text)
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.zero_()  # all logits zero: every token costs the same
    expected = math.log2(4096) * len(predicted) / len(text)
    assert run.validation.bits_per_byte(run.model) == pytest.approx(expected, rel=1e-6)


SCRIPT = """
import os, signal, sys
import torch
sys.path[:0] = {paths!r}
torch.set_num_threads(1)
from test_lm_training import TEACHER, recipe_of, small_corpus
from helpers.lm import training
where, step, kind, folder = sys.argv[1:]
teacher = TEACHER() if kind == "draft" else None
run = training.Run(recipe_of(kind), folder, teacher=teacher, corpus=small_corpus())
step = int(step)

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

save, advance, write = training.Run.save, training.Run.advance, torch.save

def halfway(state, stream):
    write(state, stream)
    stream.truncate(stream.tell() // 2)
    stream.flush()
    die()

def watch(self):
    loss = advance(self)
    if self.step == step:
        if where == "step":
            die()
        torch.save = halfway
    return loss

training.Run.advance = watch
run.finish(save_every_s=0.0, measure_every=5)
"""

TEACHER = lambda: tiny.model(seed=5, dtype=torch.float32, vocab=4096, context=32)  # noqa: E731


def recipe_of(kind: str) -> Recipe:
    return SMALL if kind == "target" else replace(SMALL, teacher="target")


@pytest.mark.parametrize(
    ("where", "step", "kind"), [("step", 8, "target"), ("save", 8, "target"), ("save", 3, "draft")]
)
def test_a_run_killed_at_any_moment_ends_like_one_that_was_not(tmp_path, where, step, kind):
    """Killed between two saves, and in the middle of writing one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    teacher = TEACHER() if kind == "draft" else None

    def run(folder):
        return training.Run(recipe_of(kind), folder, teacher=teacher, corpus=small_corpus())

    try:
        whole = run(tmp_path / "whole")
        whole.finish(measure_every=5, tell=lambda line: None)
        paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
        command = [sys.executable, "-c", SCRIPT.format(paths=paths), where, str(step), kind]
        killed = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True)
        assert killed.returncode == -9, killed.stderr
        rest = run(tmp_path / "killed")
        assert rest.step == step - 1
        assert rest.seconds > 0
        assert len(rest.losses) == rest.step % 5
        rest.finish(measure_every=5, tell=lambda line: None)
    finally:
        torch.set_num_threads(threads)
    for (name, one), other in zip(
        whole.model.state_dict().items(), rest.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert [point[:3] for point in whole.curve] == [point[:3] for point in rest.curve]
    seconds = [point[3] for point in rest.curve]
    assert seconds == sorted(seconds)


def test_a_folder_with_another_run_is_refused(tmp_path):
    corpus = small_corpus()
    run = training.Run(SMALL, tmp_path, corpus=corpus)
    run.save()
    with pytest.raises(ValueError, match="another recipe"):
        training.Run(replace(SMALL, seed=1), tmp_path, corpus=corpus)
    with pytest.raises(ValueError, match="another text"):
        training.Run(SMALL, tmp_path, corpus=replace(corpus, train=corpus.train[1:]))
    whole = run.path.read_bytes()
    for damaged in (whole[:1000], b"", b"a text"):
        run.path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is no saved run"):
            training.Run(SMALL, tmp_path, corpus=corpus)
    torch.save({**run.identity, "step": 3}, run.path)
    with pytest.raises(ValueError, match="is no saved run"):
        training.Run(SMALL, tmp_path, corpus=corpus)


def test_a_run_goes_on_from_a_model_and_leaves_it_as_it_is(tmp_path):
    start = tiny.model(dtype=torch.float32, vocab=4096, context=32)
    before = training.weights_fingerprint(start)
    recipe, options = replace(SMALL, steps=5, cool_down=1.0), dict(corpus=small_corpus(), warm_up=2)
    run = training.Run(recipe, tmp_path / "a", start=start, **options)
    assert training.weights_fingerprint(run.model) == before
    assert all(weight.requires_grad for weight in run.model.parameters())
    rates = []
    for _ in range(3):
        run.advance()
        rates.append(run.optimizers[0].param_groups[0]["lr"] / recipe.learning_rate)
    # up in two steps, and down from the first: (s + 1) / 2 against (5 - s) / 5
    assert rates == pytest.approx([0.5, 0.8, 0.6])
    assert training.weights_fingerprint(start) == before != training.weights_fingerprint(run.model)
    run.save()
    again = training.Run(recipe, tmp_path / "a", start=start, **options)
    assert again.step == 3
    other = tiny.model(seed=5, dtype=torch.float32, vocab=4096, context=32)
    for change in (dict(start=other), dict(start=None), dict(start=start, warm_up=3)):
        with pytest.raises(
            ValueError, match=f"another {'start' if len(change) == 1 else 'warm_up'}"
        ):
            training.Run(recipe, tmp_path / "a", **{**options, **change})
    with pytest.raises(ValueError, match=r"start has .*; it must have the recipe's"):
        training.Run(recipe, tmp_path / "b", start=tiny.model(), **options)


def test_a_run_saved_before_runs_could_have_a_start_goes_on(tmp_path):
    run = training.Run(SMALL, tmp_path, corpus=small_corpus())
    run.advance()
    run.save()
    state = torch.load(run.path, weights_only=True)
    del state["start"], state["warm_up"]
    torch.save(state, run.path)
    assert training.Run(SMALL, tmp_path, corpus=small_corpus()).step == 1


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path):
    run = training.Run(SMALL, tmp_path, corpus=small_corpus())
    run.save()
    with torch.no_grad():
        run.model.norm.weight[0] = math.nan
    with pytest.raises(RuntimeError, match="the loss is nan at step 0"):
        run.finish(save_every_s=0.0, tell=lambda line: None)
    again = training.Run(SMALL, tmp_path, corpus=small_corpus())
    assert all(p.isfinite().all() for p in again.model.parameters())


def test_distilling_asks_the_teacher_about_the_same_tokens(tmp_path):
    recipe, teacher = recipe_of("draft"), TEACHER()
    run = training.Run(recipe, tmp_path, corpus=small_corpus(), teacher=teacher)
    inputs, _ = run.batch(0)
    with torch.no_grad():
        p, q = (m(inputs).double().log_softmax(-1) for m in (teacher, run.model))
    expected = (p.exp() * (p - q)).sum(-1).mean().item()
    assert run.advance() == pytest.approx(expected, rel=0.03)  # products are in bf16
    first = expected
    run.finish(measure_every=12, tell=lambda line: None)
    assert run.losses == [] and run.curve[-1][1] < first
    again = TEACHER()
    assert torch.equal(teacher.head.weight, again.head.weight)  # a teacher does not learn


def test_a_wrong_teacher_is_refused(tmp_path):
    recipe, corpus = recipe_of("draft"), small_corpus()
    with pytest.raises(ValueError, match="teacher is missing"):
        training.Run(recipe, tmp_path, corpus=corpus)
    with pytest.raises(ValueError, match="teacher is given"):
        training.Run(SMALL, tmp_path, corpus=corpus, teacher=TEACHER())
    with pytest.raises(ValueError, match="vocabulary of 97"):
        training.Run(recipe, tmp_path, corpus=corpus, teacher=tiny.model())
    training.Run(recipe, tmp_path, corpus=corpus, teacher=TEACHER()).save()
    other = tiny.model(seed=6, dtype=torch.float32, vocab=4096, context=32)
    with pytest.raises(ValueError, match="another teacher"):
        training.Run(recipe, tmp_path, corpus=corpus, teacher=other)
