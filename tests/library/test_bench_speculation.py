"""The speculation bench: what it counts and predicts, on models of no size; no timing is judged."""

from __future__ import annotations

import math

import pytest
import torch

import tiny
from helpers.bench import speculation
from helpers.bench.contest import Contest
from helpers.bench.speculation import DraftResult, SpeculationRun, measure, step_times
from helpers.bench.timing import Measurement
from helpers.formulas.serving import speculative_speedup, speculative_tokens_per_round
from helpers.serve.speculative import Draft, LookupDrafter, ModelDrafter

PROMPTS = tiny.prompts(seed=1, count=2, longest=12)


def seconds(*samples: float) -> Measurement:
    return Measurement(name="x", samples_s=samples)


def result(**changes) -> DraftResult:
    values = dict(
        name="draft",
        parameters=10,
        draft_tokens=3,
        accepted=30,
        rejected=20,
        rounds=25,
        same_answers=2,
        answers=2,
        plain=seconds(1.0, 2.0, 3.0),
        guess=seconds(0.2, 0.2, 0.1),
        check=seconds(3.0, 2.5, 2.0),
        race=Contest(
            name="x", tokens=9, ours=seconds(1.0, 2.0), other=seconds(1.5, 4.0), wanted=1.3
        ),
    )
    return DraftResult(**{**values, **changes})


def test_predictions_follow_the_formulas():
    one = result()
    assert one.acceptance == 0.6
    assert one.tokens_per_round == 1 + 30 / 25
    assert one.tokens_per_round_predicted == speculative_tokens_per_round(0.6, 3)
    assert (one.draft_cost, one.verify_cost) == (0.1, 1.25)
    assert one.speedup_predicted == speculative_speedup(0.6, 3, 0.1, 1.25)
    for figure in ("0.600", "2.20 counted", "2.18 predicted", "1.75 measured", "2 of 2"):
        assert figure in str(one)


def test_a_draft_that_is_always_right_is_no_division_by_zero():
    one = result(accepted=75, rejected=0)
    assert one.tokens_per_round == one.tokens_per_round_predicted == 4
    assert one.speedup_predicted == pytest.approx(4 / (3 * 0.1 + 1.25))


def test_steps_are_timed_where_the_sequence_stands():
    target = tiny.model(dtype=torch.float32)
    for drafter in (ModelDrafter(tiny.model(seed=3, dtype=torch.float32)), LookupDrafter()):
        times = step_times(target, drafter, [5, 4, 3, 5, 4], 2, samples=3)
        assert [m.name for m in times] == ["plain", "guess", "check"]
        assert all(len(m.samples_s) == 3 and m.threads == 1 for m in times)
    with pytest.raises(ValueError, match="ids: 1 tokens"):
        step_times(target, LookupDrafter(), [5], 2)


class RightOnce:
    """Of its guesses the first is right and the second wrong: a rejection in every round."""

    def __init__(self, target, clock=None):
        self.target, self.clock = target, clock

    def begin(self, capacity):
        return self

    def propose(self, ids, params, uniform):
        guesses = []
        for number in range(len(uniform)):
            best = int(self.target(torch.tensor([*ids, *guesses]))[-1].argmax())
            guesses.append(best if number == 0 else (best + 1) % 97)
            if self.clock is not None:
                self.clock[0] += 0.25
        return Draft(guesses, None)

    def keep(self, length):
        pass


def test_times_are_of_one_step_one_guess_one_check(monkeypatch):
    """By a clock that stands still but for what is timed."""
    target, clock = tiny.model(dtype=torch.float32), [0.0]
    drafter = RightOnce(tiny.model(dtype=torch.float32), clock)
    logits = target.logits

    def timed(hidden):  # [T, C]
        clock[0] += 2.0 if hidden.shape[0] == 1 else 3.0
        return logits(hidden)

    target.logits = timed
    monkeypatch.setattr(speculation.time, "perf_counter", lambda: clock[0])
    plain, guess, check = step_times(target, drafter, [5, 4, 3, 5, 4], 4, samples=3)
    assert plain.samples_s == (2.0,) * 3
    assert guess.samples_s == (0.25,) * 3, "of one guess, not of a round of four"
    assert check.samples_s == (3.0,) * 3


def test_acceptance_is_of_the_guesses_that_were_judged():
    """What stands behind a rejected guess was neither right nor wrong."""
    target = tiny.model(dtype=torch.float32)
    drafts = {"once": RightOnce(target)}
    run = measure(target, drafts, PROMPTS, draft_tokens=4, max_tokens=13, samples=1, packed=False)
    (one,) = run.drafts
    assert one.same_answers == one.answers == len(PROMPTS)
    assert one.accepted == one.rejected == one.rounds > len(PROMPTS)
    assert (one.acceptance, one.tokens_per_round) == (0.5, 2.0)


def test_a_run_counts_full_rounds_and_survives_a_file():
    target = tiny.model(dtype=torch.float32)
    drafts = {"itself": target, "stranger": tiny.model(seed=9, dtype=torch.float32)}
    said = []
    run = measure(
        target, drafts, PROMPTS, draft_tokens=(2, 3), max_tokens=13, samples=1, progress=said.append
    )
    assert [(d.name, d.draft_tokens) for d in run.drafts] == [
        (name, k) for name in drafts for k in (2, 3)
    ]
    assert said == [str(d) for d in run.drafts] and str(run) == "\n".join(said)
    for one in run.drafts:
        assert one.parameters == sum(p.numel() for p in target.parameters())
        assert one.race.tokens == 13 * len(PROMPTS)
        assert one.same_answers == one.answers == len(PROMPTS)
        if one.name == "itself":
            # 13 tokens: full rounds of K + 1, and a last one of fewer guesses that is left out
            assert one.rounds == len(PROMPTS) * math.floor(13 / (one.draft_tokens + 1))
            assert one.tokens_per_round == one.draft_tokens + 1 and one.rejected == 0
    assert SpeculationRun.model_validate_json(run.model_dump_json()) == run


def test_what_cannot_be_measured():
    target = tiny.model(dtype=torch.float32)
    with pytest.raises(ValueError, match="prompts: empty"):
        measure(target, {"x": target}, [])
    with pytest.raises(ValueError, match="drafts: silent never made 4 guesses"):
        measure(target, {"silent": speculation._NoGuess()}, PROMPTS, max_tokens=8, samples=1)
