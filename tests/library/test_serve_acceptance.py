"""The acceptance rule: exact by enumeration, lossless by a test that five wrong rules fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers.formulas.serving import speculative_tokens_per_round
from helpers.serve.acceptance import (
    acceptance_chance,
    acceptance_rate,
    judge,
    judge_greedy,
    pick,
    residual,
)

# --- exact: every outcome enumerated --------------------------------------------------------------

VOCAB = 3
DRAFTED = 2  # tokens a round
LENGTH = 3  # tokens looked at together: one full round with its bonus, or parts of several

#: next token given the one before, [V, V]: far enough apart that half of the guesses fail
TARGET = torch.tensor(
    [[0.60, 0.30, 0.10], [0.15, 0.25, 0.60], [0.34, 0.33, 0.33]], dtype=torch.float64
)
DRAFT = torch.tensor(
    [[0.25, 0.25, 0.50], [0.30, 0.50, 0.20], [0.10, 0.70, 0.20]], dtype=torch.float64
)
START = 0


def rounds_of(length: int, before: int, distribution) -> np.ndarray:
    """Chances of the next ``length`` tokens, [V] * length, for ``distribution(before)`` [V]."""
    if length == 0:
        return np.ones(())
    return np.stack(
        [
            float(chance) * rounds_of(length - 1, token, distribution)
            for token, chance in enumerate(distribution(before))
        ]
    )


def sequences(model: torch.Tensor, length: int = LENGTH) -> np.ndarray:
    """Chance of each sequence under a chain, [V] * length."""
    return rounds_of(length, START, lambda before: model[before])


def outcomes(p: torch.Tensor, q: torch.Tensor, before: int = START) -> dict[tuple, float]:
    """Chance of each outcome (tokens) of one round, by going through all drafts and verdicts."""
    found: dict[tuple, float] = {}

    def follow(drafted: tuple, last: int, chance: float) -> None:
        if len(drafted) == DRAFTED:
            for token in range(VOCAB):  # the bonus
                found[(*drafted, token)] = chance * float(p[last, token])
            return
        passes = acceptance_chance(p[last], q[last])
        refused = float((q[last] * (1 - passes)).sum())
        for token in range(VOCAB):
            instead = float(residual(p[last], q[last])[token])
            key = (*drafted, token)  # shorter than a full round, so no clash with one
            found[key] = found.get(key, 0.0) + chance * refused * instead
            follow(key, token, chance * float(q[last, token] * passes[token]))

    follow((), before, 1.0)
    return found


def joined(p: torch.Tensor, q: torch.Tensor) -> np.ndarray:
    """Chance of the first LENGTH tokens when rounds follow each other, [V] * LENGTH."""
    total = np.zeros((VOCAB,) * LENGTH)

    def follow(tokens: tuple, chance: float) -> None:
        if len(tokens) >= LENGTH:
            total[tokens[:LENGTH]] += chance
            return
        for more, share in outcomes(p, q, tokens[-1] if tokens else START).items():
            if share:
                follow(tokens + more, chance * share)

    follow((), 1.0)
    return total


def distributions(vocab: int) -> st.SearchStrategy:
    """Distributions with zeros and ties among them."""
    weights = st.lists(st.integers(0, 8), min_size=vocab, max_size=vocab).filter(any)
    return weights.map(lambda w: torch.tensor(w, dtype=torch.float64) / sum(w))


@given(vocab=st.integers(1, 6), data=st.data())
def test_one_place_gives_the_targets_distribution(vocab, data):
    p, q = data.draw(distributions(vocab)), data.draw(distributions(vocab))
    passes = acceptance_chance(p, q)
    refused = (q * (1 - passes)).sum()
    assert torch.allclose(q * passes + refused * residual(p, q), p, rtol=0, atol=1e-12)
    # Leviathan et al., 2023, Theorem 3.5: the share accepted is the overlap
    assert float((q * passes).sum()) == pytest.approx(float(torch.minimum(p, q).sum()), abs=1e-12)


def test_successive_tokens_have_the_targets_joint_distribution():
    assert np.abs(joined(TARGET, DRAFT) - sequences(TARGET)).max() < 1e-12


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_successive_tokens_of_random_chains(data):
    p = torch.stack([data.draw(distributions(VOCAB)) for _ in range(VOCAB)])
    q = torch.stack([data.draw(distributions(VOCAB)) for _ in range(VOCAB)])
    assert np.abs(joined(p, q) - sequences(p)).max() < 1e-12


@given(data=st.data(), seed=st.integers(0, 2**31))
def test_judge_does_what_the_chances_say(data, seed):
    rows, count, vocab = 3, data.draw(st.integers(0, 4)), data.draw(st.integers(1, 5))
    p = torch.stack([data.draw(distributions(vocab)) for _ in range(rows * (count + 1))])
    p = p.reshape(rows, count + 1, vocab)
    q = torch.stack([data.draw(distributions(vocab)) for _ in range(rows * count)] or [p[0, 0]])
    q = q[: rows * count].reshape(rows, count, vocab)
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, count + 1, generator=generator, dtype=torch.float64)
    drafted = pick(q, torch.rand(rows, count, generator=generator, dtype=torch.float64))
    accepted, token = judge(drafted, p, q, uniform)
    for row in range(rows):
        expected = 0
        while expected < count:
            chance = acceptance_chance(p[row, expected], q[row, expected])[drafted[row, expected]]
            if not uniform[row, expected] < chance:
                break
            expected += 1
        assert accepted[row] == expected
        assert p[row, expected, token[row]] > 0
        if expected < count:  # a replacement is never a token the draft says too often
            left = p[row, expected] - q[row, expected]
            assert left[token[row]] > 0


@given(data=st.data())
def test_greedy_is_the_case_of_certain_targets(data):
    vocab, count = 4, data.draw(st.integers(0, 5))
    token = st.integers(0, vocab - 1)
    drafted = data.draw(st.lists(token, min_size=count, max_size=count))
    choices = data.draw(st.lists(token, min_size=count + 1, max_size=count + 1))
    p = torch.nn.functional.one_hot(torch.tensor([choices]), vocab).double()
    q = torch.nn.functional.one_hot(torch.tensor([drafted], dtype=torch.int64), vocab).double()
    uniform = torch.rand(1, count + 1, generator=torch.Generator().manual_seed(0)).double()
    accepted, own = judge(torch.tensor([drafted], dtype=torch.int64), p, q, uniform)
    assert (int(accepted), int(own)) == judge_greedy(drafted, choices)


def test_a_token_the_target_never_gives_is_never_accepted():
    """Not even if the number drawn is 0, the least there is."""
    p = torch.tensor([[[0.0, 1.0], [0.5, 0.5]]])
    q = torch.tensor([[[1.0, 0.0]]])
    accepted, token = judge(torch.tensor([[0]]), p, q, torch.zeros(1, 2))
    assert (int(accepted), int(token)) == (0, 1)


def test_pick_never_gives_a_token_without_chance():
    p = torch.tensor([[0.0, 0.1, 0.0, 0.9, 0.0]] * 3, dtype=torch.float64)
    edges = torch.tensor([0.0, 0.1, 1 - 2**-53], dtype=torch.float64)
    assert pick(p, edges).tolist() == [1, 3, 3]


# --- statistical: many rounds against the truth, and against wrong rules --------------------------

#: chance that the test refuses the right rule, all its parts together
FALSE_ALARM = 1e-4
TRIALS = 40_000

#: what the draft really draws from, and what the last wrong rule takes it for
TEMPERATURE = 0.6
OTHER_TEMPERATURE = DRAFT ** (1 / TEMPERATURE)
OTHER_TEMPERATURE = OTHER_TEMPERATURE / OTHER_TEMPERATURE.sum(-1, keepdim=True)


def right(drafted, context, uniform):
    """The rule under test."""
    return judge(drafted, TARGET[context], DRAFT[context[:, :DRAFTED]], uniform)


def always_accept(drafted, context, uniform):
    """Take every guess, then the bonus."""
    bonus = pick(TARGET[context[:, DRAFTED]], uniform[:, DRAFTED])
    return torch.full((len(drafted),), DRAFTED), bonus


def resample_from_p(drafted, context, uniform):
    """Verdicts as they should be, but a rejected guess is replaced by a draw from p itself."""
    accepted, _ = right(drafted, context, uniform)
    before = context.gather(1, accepted.unsqueeze(1)).squeeze(1)
    return accepted, pick(TARGET[before], uniform[:, DRAFTED])


def no_bonus(drafted, context, uniform):
    """All guesses accepted: the round ends with them. Still p's distribution, in more rounds."""
    accepted, token = right(drafted, context, uniform)
    return accepted, torch.where(accepted == DRAFTED, -1, token)


def bonus_from_the_draft(drafted, context, uniform):
    """All guesses accepted: the draft's next guess passes as the bonus, unjudged."""
    accepted, token = right(drafted, context, uniform)
    guess = pick(DRAFT[context[:, DRAFTED]], uniform[:, DRAFTED])
    return accepted, torch.where(accepted == DRAFTED, guess, token)


def draft_at_another_temperature(drafted, context, uniform):
    """Judge with the draft's probabilities at temperature 0.6; it drew at temperature 1."""
    return judge(drafted, TARGET[context], OTHER_TEMPERATURE[context[:, :DRAFTED]], uniform)


def simulate(rule, seed: int, trials: int = TRIALS) -> tuple[np.ndarray, np.ndarray]:
    """Decode all trials side by side by ``rule(drafted [R, K], context [R, K + 1], uniform)``.

    ``context`` holds the token before each place. Returns the first LENGTH tokens [R, LENGTH] and
    how many tokens the first round gave [R].
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((trials, LENGTH + DRAFTED), -1)
    held = torch.zeros(trials, dtype=torch.int64)  # tokens that each trial has
    row = torch.arange(trials)
    first_round = None
    while int(held.min()) < LENGTH:
        uniform = torch.rand(trials, 2 * DRAFTED + 1, generator=generator, dtype=torch.float64)
        context = [torch.where(held > 0, tokens[row, held - 1], START)]
        for place in range(DRAFTED):
            context.append(pick(DRAFT[context[-1]], uniform[:, place]))
        drafted = torch.stack(context[1:], 1)  # [R, K]
        accepted, own = rule(drafted, torch.stack(context, 1), uniform[:, DRAFTED:])
        gives = accepted + (own >= 0)
        given = torch.cat((drafted, own.unsqueeze(1)), 1)  # [R, K + 1]
        given[row, accepted] = own
        for place in range(DRAFTED + 1):
            here = (place < gives) & (held < LENGTH)  # a trial that has enough stands still
            tokens[row[here], held[here] + place] = given[here, place]
        held = torch.where(held < LENGTH, held + gives, held)
        first_round = gives if first_round is None else first_round
    return tokens[:, :LENGTH].numpy(), first_round.numpy()


def round_lengths(p: torch.Tensor, q: torch.Tensor) -> np.ndarray:
    """Chance that a round gives 1, 2, ... K + 1 tokens: as long as all overlaps hold."""
    chance = np.zeros(DRAFTED + 1)

    def follow(place: int, last: int, reached: float) -> None:
        if place == DRAFTED:
            chance[place] += reached
            return
        overlap = torch.minimum(p[last], q[last])
        chance[place] += reached * (1 - float(overlap.sum()))
        for token in range(VOCAB):
            follow(place + 1, token, reached * float(overlap[token]))

    follow(0, START, 1.0)
    return chance


def p_value(counted: np.ndarray, chances: np.ndarray) -> float:
    """G-test of counts against known chances."""
    return stats.power_divergence(
        counted.ravel(), chances.ravel() * counted.sum(), lambda_="log-likelihood"
    ).pvalue


def lossless_p_value(rule, seed: int) -> float:
    """Tokens against the target's joint distribution, tokens a round against the overlaps.

    Two tests, so the smaller p-value counts twice (Bonferroni).
    """
    tokens, first_round = simulate(rule, seed)
    counted = np.zeros((VOCAB,) * LENGTH)
    np.add.at(counted, tuple(tokens.T), 1)
    lengths = np.bincount(first_round, minlength=DRAFTED + 2)[1:]
    both = p_value(counted, sequences(TARGET)), p_value(lengths, round_lengths(TARGET, DRAFT))
    return min(1.0, 2 * min(both))


def test_the_right_rule_passes():
    values = [lossless_p_value(right, seed) for seed in range(5)]
    assert min(values) > FALSE_ALARM / len(values), values


@pytest.mark.parametrize(
    "rule",
    [
        always_accept,
        resample_from_p,
        no_bonus,
        bonus_from_the_draft,
        draft_at_another_temperature,
    ],
)
def test_a_wrong_rule_fails(rule):
    assert lossless_p_value(rule, seed=0) < 1e-12


def test_leaving_out_the_bonus_costs_rounds_not_truth():
    tokens, first_round = simulate(no_bonus, seed=1)
    counted = np.zeros((VOCAB,) * LENGTH)
    np.add.at(counted, tuple(tokens.T), 1)
    assert p_value(counted, sequences(TARGET)) > FALSE_ALARM
    assert first_round.max() == DRAFTED


# --- acceptance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.8, 0.97])
@pytest.mark.parametrize("draft_tokens", [1, 4, 8])
def test_acceptance_from_counts_predicts_tokens_per_round(acceptance, draft_tokens):
    random = np.random.default_rng(0)
    verdicts = random.random((20_000, draft_tokens)) < acceptance
    accepted = np.cumprod(verdicts, axis=1).sum(axis=1)
    rejected = int((accepted < draft_tokens).sum())
    estimate = acceptance_rate(int(accepted.sum()), rejected)
    judged = int(accepted.sum()) + rejected
    assert abs(estimate - acceptance) < 5 * np.sqrt(acceptance * (1 - acceptance) / judged) + 1e-12
    counted = 1 + accepted.mean()
    assert counted == pytest.approx(speculative_tokens_per_round(estimate, draft_tokens), rel=0.02)
    if acceptance and draft_tokens > 1:  # the share of all drafted predicts too few
        share = accepted.sum() / verdicts.size
        assert speculative_tokens_per_round(share, draft_tokens) < 0.999 * counted


def test_acceptance_rate_is_the_most_likely():
    lengths = [4, 4, 0, 1, 3, 4, 2]  # of four drafted
    grid = np.linspace(0.001, 0.999, 999)
    likelihood = np.prod([grid**n * np.where(n < 4, 1 - grid, 1) for n in lengths], axis=0)
    best = grid[likelihood.argmax()]
    assert acceptance_rate(sum(lengths), sum(n < 4 for n in lengths)) == pytest.approx(
        best, abs=1e-3
    )


@pytest.mark.parametrize(("accepted", "rejected"), [(0, 0), (-1, 3), (3, -1)])
def test_counts_that_cannot_be(accepted, rejected):
    with pytest.raises(ValueError, match=r"accepted|rejected"):
        acceptance_rate(accepted, rejected)
