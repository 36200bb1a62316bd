"""A token with and without a cache: what is timed, what is predicted, and how both are compared."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch

import tiny
from helpers.bench import cache_bounds, cache_compare, cache_steps, recorded, stopwatch
from helpers.bench.line import Line, fit_line
from helpers.bench.operations import OperationsRun
from helpers.book.figures import without, without_tables
from helpers.lm.model import causal_attention


@pytest.fixture(scope="module")
def card():
    return recorded.load("reference-cpu-card")


@pytest.fixture(scope="module")
def model():
    return tiny.model(dtype=torch.float32, context=1024, layers=1)


@pytest.fixture(scope="module")
def run(model):
    """A whole run of a tiny model, without the operations that built the card."""
    check = recorded.load("reference-cpu-operations")
    patch = pytest.MonkeyPatch()
    patch.setattr(cache_steps, "_card_check", lambda command: check)
    for name, fewer in (
        ("LENGTHS", (32, 512, 1000)),
        ("PREFILLS", (16, 64)),
        ("BATCHES", (1, 2)),
        ("PLAY_PROMPTS", (16,)),
    ):
        patch.setattr(cache_steps, name, fewer)
    try:
        return cache_steps.measure(model, rounds=1, answer_tokens=64, play_samples=1)
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def predicted(run, card):
    return cache_bounds.TokenPrediction(
        cache_bounds.as_record(run.model), card, run.calls_cached, run.calls_uncached, threads=1
    )


# ---- lines -------------------------------------------------------------------------------------


def test_a_line_is_found_again_and_agrees_with_least_squares():
    draw = random.Random(0)
    for _ in range(20):
        a, b = draw.uniform(-1, 5), draw.uniform(-1, 1)
        xs = draw.sample(range(1000), 12)
        line = fit_line(xs, [a + b * x for x in xs])
        slope, start = np.polyfit(xs, [a + b * x for x in xs], 1)
        assert line.a == pytest.approx(a, abs=1e-9) == pytest.approx(start, abs=1e-6)
        assert line.b == pytest.approx(b, abs=1e-9) == pytest.approx(slope, abs=1e-9)


def test_disturbed_points_do_not_tilt_a_line():
    xs = list(range(10, 110, 10))
    ys = [2.0 + 0.5 * x for x in xs]
    ys[3] *= 20
    ys[8] *= 20
    assert abs(np.polyfit(xs, ys, 1)[0] - 0.5) > 1, "least squares does tilt"
    line = fit_line(xs, ys)
    assert line.a == pytest.approx(2.0) and line.b == pytest.approx(0.5)


def test_a_noisy_line_is_the_one_that_scipy_finds():
    stats = pytest.importorskip("scipy.stats")
    draw = random.Random(1)
    for _ in range(10):
        xs = draw.sample(range(1000), 17)
        ys = [2.0 + 0.5 * x + draw.expovariate(0.05) for x in xs]
        slope, start, *_ = stats.theilslopes(ys, xs, method="joint")
        line = fit_line(xs, ys)
        assert line.b == pytest.approx(slope) and line.a == pytest.approx(start)


@pytest.mark.parametrize("prompt, tokens", [(0, 1), (16, 1), (16, 400), (3, 77)])
def test_a_total_is_the_sum_of_its_tokens(prompt, tokens):
    line = Line(a=0.3, b=0.01)
    summed = sum(line.at(prompt + place) for place in range(tokens))
    assert line.total(prompt, tokens) == pytest.approx(summed)


def test_bad_lines_are_refused():
    with pytest.raises(ValueError, match="tokens: 1 points"):
        fit_line([1], [2.0])
    with pytest.raises(ValueError, match="alike"):
        fit_line([1, 1, 2], [2.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="seconds: a value is not finite"):
        fit_line([1, 2], [2.0, float("nan")])
    with pytest.raises(ValueError, match="tokens: 0 is not a whole number of at least 1"):
        Line(1.0, 1.0).total(3, 0)


# ---- bounds ------------------------------------------------------------------------------------


def test_the_record_counts_the_weights_that_torch_holds():
    for changes in ({}, {"tied_embeddings": True}, {"kv_heads": 4}, {"kv_heads": 1, "ffn": 48}):
        made = tiny.model(**changes)
        record = cache_bounds.as_record(made.config.to_dict())
        counted = cache_bounds.transformer.parameters(record)
        assert counted == sum(weight.numel() for weight in made.parameters())
    with pytest.raises(ValueError, match="config: lacks heads"):
        cache_bounds.as_record({k: v for k, v in tiny.config().to_dict().items() if k != "heads"})


def _target(card, **changes):
    sizes = dict(layers=5, d_model=384, heads=8, kv_heads=4, head_dim=32, ffn=1024, vocab=4096,
                 context=1024, tied_embeddings=True)  # fmt: skip
    record = cache_bounds.as_record(sizes)
    return cache_bounds.TokenPrediction(record, card, calls_cached=200, calls_uncached=100)


def test_a_step_costs_its_weights_and_each_token_its_keys_and_values(card):
    target = _target(card)
    weights = 4 * 8_949_888
    step = target.step(1)
    # all weights but the norms' go through products; one row of each is too little to compute
    cost = card.seconds_per_byte("read", weights)
    assert step.parts_s["products"] == pytest.approx(4 * 8_945_664 * cost, rel=0.02)
    # a thousand tokens more to read; with them the working set grows, and the price of a byte
    grown = target.step(1001).bound_s - step.bound_s
    dearer = card.seconds_per_byte("read", weights + 1000 * 5120)
    assert grown == pytest.approx((weights + 1000 * 5120) * dearer - weights * cost, rel=0.05)
    assert grown >= 1000 * 5120 * cost
    assert step.calls_s == pytest.approx(200 * card.dispatch_s)
    assert step.total_s == pytest.approx(step.bound_s + step.calls_s)


def test_a_pass_costs_its_arithmetic(card):
    target, peak = _target(card), card.peak("fp32")
    layers = 8_949_888 - 4096 * 384 - 11 * 384  # weights of the layers' products
    least = 2 * (512 * layers + 4096 * 384) / peak
    whole = target.whole(512)
    assert whole.parts_s["products"] == pytest.approx(least, rel=0.02)
    pairs = 512 * 513 / 2
    assert whole.parts_s["attention"] == pytest.approx(
        5 * (4 * 256 * pairs / peak + 8 * pairs * card.exponential_s), rel=0.02
    )
    one, all_threads = (_target(card) for _ in range(2))
    slow = cache_bounds.forecast(one.record, card, tokens=512, threads=1)
    assert slow.bound_s > 1.5 * all_threads.whole(512).bound_s


def test_near_bytes_are_cheaper_and_an_answer_is_the_sum_of_its_tokens(card):
    target = _target(card)
    # the first token of all attends to itself alone, whether it is kept or not
    assert target.step(1).flops == target.whole(1).flops
    assert target.step(512, near=True).bound_s < target.step(512).bound_s
    cached = target.prompt(16).total_s + target.step(17).total_s + target.step(18).total_s
    assert target.answer_s(16, 3, cached=True) == pytest.approx(cached)
    without_s = sum(target.whole(length).total_s for length in (16, 17, 18))
    assert target.answer_s(16, 3, cached=False) == pytest.approx(without_s)
    with pytest.raises(ValueError, match="threads: 77 was not measured"):
        cache_bounds.forecast(target.record, card, threads=77)


# ---- the stopwatch -----------------------------------------------------------------------------

NAP_S = 0.03


@pytest.mark.parametrize("part", [*stopwatch.PARTS, "head"])
def test_the_stopwatch_finds_the_slow_part(part, monkeypatch):
    made = tiny.model(layers=1)

    def slow(function):
        def napping(*arguments, **named):
            time.sleep(NAP_S)
            return function(*arguments, **named)

        return napping

    attend = causal_attention
    if part == "products":
        monkeypatch.setattr(
            made.layers[0].ffn.down, "forward", slow(made.layers[0].ffn.down.forward)
        )
    elif part == "attention":
        attend = slow(causal_attention)
    elif part == "other":
        monkeypatch.setattr(made.norm, "forward", slow(made.norm.forward))

    def call():
        if part == "around":
            time.sleep(NAP_S)
        made.logits(made.hidden(torch.tensor([[1, 2, 3]]), attend=attend))

    if part == "head":  # one of the products
        monkeypatch.setattr(made.head, "forward", slow(made.head.forward))
        part = "products"
    parts = stopwatch.split(made, call)
    assert tuple(parts) == stopwatch.PARTS
    assert parts[part] >= NAP_S
    assert max(parts, key=parts.get) == part


def test_the_head_is_a_product_and_the_model_is_left_as_it_was():
    made = tiny.model(layers=1)
    with pytest.raises(ZeroDivisionError), stopwatch.watched(made) as spent:
        made(torch.tensor([[1, 2]]))
        assert spent["head"] > 0 and spent["layers"] > spent["products"] > 0
        1 / 0  # noqa: B018
    assert "hidden" not in vars(made)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in made.modules())


# ---- what is timed -----------------------------------------------------------------------------


def test_both_ways_write_the_same_token_at_every_length():
    writer = cache_steps._Writer(tiny.model(context=1024))
    for length in (8, 33, 500):
        engine = writer.engine(length)
        (request,) = engine.scheduler.running
        assert len(request.ids) == length
        writer._tensor[:length] = torch.tensor(request.ids)
        engine.step()
        assert request.ids[length] == writer.whole(length)


def test_the_two_ways_take_turns(monkeypatch, model):
    calls = []
    for name in ("cached_s", "uncached_s"):
        monkeypatch.setattr(
            cache_steps._Writer, name, lambda self, n, name=name: calls.append((name[0], n)) or 1.0
        )
    times = cache_steps.time_tokens(model, (16, 32), rounds=2)
    kept = calls[4:]  # after the warm-up
    first, second = kept[:4], kept[4:]
    assert first == [("c", 16), ("u", 16), ("c", 32), ("u", 32)]
    assert second == [("u", 32), ("c", 32), ("u", 16), ("c", 16)]
    assert [one.length for one in times] == [16, 32]
    assert all(len(one.cached.samples_s) == len(one.uncached.samples_s) == 2 for one in times)


def test_bad_requests_name_argument_value_and_what_is_allowed(model):
    for call, message in (
        (lambda: cache_steps.time_tokens(model, (4,)), "lengths: 4 is not a whole number from 8"),
        (lambda: cache_steps.time_tokens(model, (1020,)), "lengths: 1020 is not .* to 1016"),
        (lambda: cache_steps.time_tokens(model, ()), "lengths: is empty"),
        (lambda: cache_steps.time_tokens(model, (16,), rounds=0), "rounds: 0 is not"),
        (lambda: cache_steps.time_answers(model, 0, (1,)), "prompt: 0 is not"),
        (lambda: cache_steps.time_answers(model, 16, (2000,)), "counts: 2000 is not .* to 1008"),
        (lambda: cache_steps.measure(model, answer_tokens=8), "answer_tokens: 8 is not .* 64"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_busy_machine_gets_fewer_rounds_and_shorter_answers(model, monkeypatch):
    check = recorded.load("reference-cpu-operations")
    monkeypatch.setattr(cache_steps, "_card_check", lambda command: check)
    for name, fewer in (("LENGTHS", (32, 64)), ("PREFILLS", (16,)), ("BATCHES", (1,))):
        monkeypatch.setattr(cache_steps, name, fewer)
    hurried = cache_steps.measure(model, rounds=4, answer_tokens=256, answer_samples=3, budget_s=0)
    assert [len(one.cached.samples_s) for one in hurried.tokens] == [1, 1]
    assert {len(part.samples_s) for one in hurried.parts for part in one.parts.values()} == {1}
    assert [len(one.step.samples_s) for one in hurried.work] == [1, 1]
    assert [one.tokens for one in hurried.answers] == [32, 64]


def test_an_answer_stops_on_its_way(model):
    short, long = cache_steps.time_answers(model, 16, (2, 40), samples=2)
    assert (short.tokens, long.tokens) == (2, 40)
    for way in ("cached", "uncached"):
        pairs = zip(getattr(short, way).samples_s, getattr(long, way).samples_s, strict=True)
        assert all(first < last for first, last in pairs)


def test_the_hollow_model_makes_the_same_calls(model):
    for made in (model, tiny.model(dtype=torch.float32, context=1024, layers=3)):
        assert cache_steps.count_both(cache_steps.hollow(made)) == cache_steps.count_both(made)
    few, many = (
        cache_steps.count_both(tiny.model(dtype=torch.float32, context=1024, layers=layers))
        for layers in (1, 3)
    )
    assert many[0] > few[0] and many[1] > few[1]


# ---- a run and what is said about it -----------------------------------------------------------


def test_a_run_comes_back_from_its_file(run):
    assert cache_steps.CacheRun.model_validate_json(run.model_dump_json()) == run
    assert run.answer(16, 64).ratio > 0
    with pytest.raises(ValueError, match=r"prompt, tokens: \(5, 5\) was not timed; there are \(16"):
        run.answer(5, 5)
    with pytest.raises(ValueError, match="length: 7 was not timed; there are"):
        run.part(7, cached=True)


def test_parts_add_up_and_ratios_cover_all_predictions(run, predicted):
    for cached in (True, False):
        *rows, total = cache_compare.part_rows(run, predicted, cached=cached)
        for column in (1, 2, 3):
            assert total[column] == pytest.approx(sum(row[column] for row in rows))
        assert total[3] == pytest.approx(run.part(512, cached=cached).total_s)
    found = cache_compare.ratios(run, predicted)
    assert len(found) == 2 * len(run.tokens) + len(run.work)
    first = run.tokens[0]
    assert found["32 tokens of text, with"] == pytest.approx(
        first.cached.median_s / predicted.step(32).total_s
    )
    assert [one.tokens for one in cache_compare.long_answers(run)] == [32, 64]


def test_the_line_without_a_cache_ends_where_it_is_fitted(run):
    slow = run.tokens[-1].uncached.model_copy(update={"samples_s": (100.0,)})
    late = run.tokens[-1].model_copy(update={"uncached": slow})
    changed = run.model_copy(update={"tokens": (*run.tokens[:-1], late)})
    same = cache_compare.measured_line(run, cached=False)
    assert cache_compare.measured_line(changed, cached=False) == same
    assert cache_compare.beyond_the_fit(changed) > cache_compare.beyond_the_fit(run)


def test_a_run_of_another_state_is_not_compared_in_silence(run, predicted, card):
    there = card.environment.model_copy(update={"processor": "an abacus"})
    far = run.model_copy(update={"environment": there})
    assert "abacus" in cache_compare.caution(far, predicted)
    here = run.model_copy(update={"environment": card.environment, "threads": 2})
    assert "2 of the 1 threads" in cache_compare.caution(here, predicted)
    check: OperationsRun = run.card_check
    slow = {
        name: one.model_copy(update={"samples_s": tuple(5 * s for s in one.samples_s)})
        for name, one in check.measurements.items()
    }
    busy = here.model_copy(
        update={"card_check": check.model_copy(update={"measurements": slow}), "threads": 1}
    )
    assert "busier now" in cache_compare.caution(busy, predicted)


def test_everything_can_be_shown(run, predicted, monkeypatch):
    said = "\n".join(cache_compare.explanation(run, predicted))
    assert f"calls: {run.calls_cached} of them" in said and "nan" not in said
    for made in (without.time_per_token(run, predicted), without.on_the_roofline(run, predicted)):
        assert made.html.count("<svg") == 2
    for table in (
        without_tables.prediction_table(predicted),
        without_tables.line_table(run, predicted),
        without_tables.total_table(run, predicted),
        without_tables.part_table(run, predicted, cached=True),
        without_tables.part_table(run, predicted, cached=False),
        without_tables.work_table(run, predicted),
    ):
        assert "<table>" in table._repr_html_() and "nan" not in table._repr_html_()


def test_the_playground_measures_live_and_shows_the_recorded_run_in_the_book(
    model, predicted, monkeypatch
):
    monkeypatch.delenv(recorded.ENVIRONMENT_VARIABLE, raising=False)
    assert "times as long" in without.both_ways(model, predicted, 16.0, 2).caption
    monkeypatch.setenv(recorded.ENVIRONMENT_VARIABLE, "1")
    monkeypatch.setattr(without, "time_answers", None)  # nothing is timed
    for prompt in cache_steps.PLAY_PROMPTS:
        for tokens in cache_steps.PLAY_TOKENS:
            ratio = recorded.load(without.RUN).answer(prompt, tokens).ratio
            caption = without.both_ways(None, predicted, prompt, tokens).caption
            assert f"*{ratio:.2f} times as long*" in caption


def test_the_shipped_run_holds_what_the_lab_shows():
    shipped = recorded.load(without.RUN)
    assert tuple(one.length for one in shipped.tokens) == cache_steps.LENGTHS
    assert all(len(one.cached.samples_s) >= 3 for one in shipped.tokens)
    assert cache_bounds.transformer.parameters(cache_bounds.as_record(shipped.model)) == 8_949_888
    assert cache_compare.long_answers(shipped)[-1].tokens >= 128
    longest = shipped.tokens[-1]
    assert longest.uncached.median_s > longest.cached.median_s
