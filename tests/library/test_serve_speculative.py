"""Speculative decoding: the same tokens as the target alone, or the same distribution of them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats

import tiny
from helpers.lm.loading import load
from helpers.lm.model import Transformer
from helpers.lm.tokenizer import load as load_tokenizer
from helpers.serve import speculative
from helpers.serve.request import RequestError, SamplingParams
from helpers.serve.speculative import (
    Draft,
    LookupDrafter,
    ModelDrafter,
    Round,
    SpeculativeCounts,
    SpeculativeDecoder,
)


def perturbed(model: Transformer, amount: float, seed: int = 1) -> Transformer:
    """The same model with noise on its weights: it agrees on some tokens only."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            if weight.dim() == 2:
                noise = torch.randn(weight.shape, generator=generator).to(weight.dtype)
                weight.add_(amount * weight.std() * noise)
    return other


def greedy(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """The target alone, without any cache: the reference."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def assert_same(model: Transformer, prompt: list[int], tokens: list[int], expected: list[int]):
    """All tokens equal, or in float32 the first that differs is a near tie (False then)."""
    if tokens == expected:
        return True
    assert model.dtype == torch.float32
    place = next(i for i, pair in enumerate(zip(tokens, expected, strict=True)) if len({*pair}) > 1)
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + expected[:place]]))[0, -1]
    first, second = scores.topk(2).values.tolist()
    assert first - second < 1e-4
    return False


TARGET = tiny.model(seed=0)
UNRELATED = tiny.model(seed=7, layers=1, d_model=16, heads=2, kv_heads=1, ffn=24)
CLOSE = perturbed(TARGET, 0.1)
DRAFTS = {"itself": TARGET, "close": CLOSE, "unrelated": UNRELATED}
TOKENS = 21
PROMPTS = tiny.prompts(seed=3, count=3, longest=30)
EXPECTED = [greedy(TARGET, prompt, TOKENS) for prompt in PROMPTS]


# --- greedy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft_tokens", range(1, 9))
@pytest.mark.parametrize("name", DRAFTS)
def test_greedy_is_token_for_token_the_target_alone(name, draft_tokens):
    decoder = SpeculativeDecoder(TARGET, DRAFTS[name], draft_tokens)
    for prompt, expected in zip(PROMPTS, EXPECTED, strict=True):
        output = decoder.generate(prompt, SamplingParams(max_tokens=TOKENS))
        assert output.tokens == expected
        assert output.finish == "length" and output.prompt_tokens == prompt
        counts = output.counts
        assert counts.generated == TOKENS == counts.accepted + counts.rounds
        assert counts.drafted == sum(len(r.drafted) for r in output.rounds)
        assert counts.accepted + counts.rejected <= counts.drafted
        left = TOKENS
        for done in output.rounds:  # as many guesses as can still be of use
            assert len(done.drafted) == min(draft_tokens, left - 1)
            left -= len(done.tokens)
        if name == "itself":
            assert counts.accepted == counts.drafted and counts.rejected == 0
            assert counts.rounds == math.ceil(TOKENS / (draft_tokens + 1))


def test_a_close_draft_is_right_at_times():
    outputs = [
        SpeculativeDecoder(TARGET, CLOSE).generate(prompt, SamplingParams(max_tokens=60))
        for prompt in PROMPTS
    ]
    counts = SpeculativeCounts.of([r for output in outputs for r in output.rounds])
    assert 0.2 < counts.acceptance < 0.95  # else the equality above would prove little
    # rounds of every kind: nothing accepted, some, all
    assert {r.accepted for output in outputs for r in output.rounds} >= {0, 1, 4}


def test_float32_diverges_at_near_ties_only():
    model, draft = tiny.model(seed=4, dtype=torch.float32), tiny.model(seed=5, dtype=torch.float32)
    generated = differing = 0
    for prompt in tiny.prompts(seed=9, count=8, longest=20):
        expected = greedy(model, prompt, 40)
        decoder = SpeculativeDecoder(model, draft)
        tokens = decoder.generate(prompt, SamplingParams(max_tokens=40)).tokens
        generated += len(tokens)
        differing += not assert_same(model, prompt, tokens, expected)
    assert differing <= generated / 1000


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 5, 6, 7])
def test_max_tokens_is_exact(max_tokens):
    output = SpeculativeDecoder(TARGET, TARGET).generate(
        PROMPTS[0], SamplingParams(max_tokens=max_tokens)
    )
    assert output.tokens == EXPECTED[0][:max_tokens]
    assert output.counts.drafted == max_tokens - output.counts.rounds  # no guess without room


@pytest.mark.parametrize("name", DRAFTS)
@pytest.mark.parametrize("place", range(8))
def test_the_end_of_text_cuts_a_round(name, place):
    """Whether the end comes as a guess, a replacement or a bonus."""
    end = EXPECTED[1][place]
    expected = EXPECTED[1][: EXPECTED[1].index(end) + 1]
    params = SamplingParams(max_tokens=TOKENS)
    decoder = SpeculativeDecoder(TARGET, DRAFTS[name], end_token=end)
    output = decoder.generate(PROMPTS[1], params)
    assert output.tokens == expected and output.finish == "stop"
    assert output.counts.generated == len(expected)
    on = SamplingParams(max_tokens=TOKENS, ignore_end=True)
    assert decoder.generate(PROMPTS[1], on).tokens == EXPECTED[1]
    # the request's own token ends it as well
    on = SamplingParams(max_tokens=TOKENS, ignore_end=True, stop_tokens=[end])
    assert decoder.generate(PROMPTS[1], on).tokens == expected


def test_the_context_ends_a_sequence():
    model = tiny.model(seed=2, context=16)
    prompt = [5, 4, 3, 2, 1]
    output = SpeculativeDecoder(model, model, 3).generate(prompt, SamplingParams(max_tokens=50))
    assert output.tokens == greedy(model, prompt, 11) and output.finish == "length"


def test_a_draft_with_a_shorter_context_stops_guessing():
    draft = tiny.model(seed=0, context=16)  # the target's weights: right as long as it can guess
    prompt = [1, 2, 3, 4, 5, 6]
    output = SpeculativeDecoder(TARGET, draft).generate(prompt, SamplingParams(max_tokens=20))
    assert output.tokens == greedy(TARGET, prompt, 20)
    drafted = [len(r.drafted) for r in output.rounds]
    assert drafted[:3] == [4, 4, 1] and set(drafted[3:]) == {0}


class Script:
    """A drafter that knows the answer and errs where it is told to."""

    def __init__(self, prompt: list[int], answer: list[int], wrong: set[int]):
        self.answer, self.wrong, self.start = answer, wrong, len(prompt)

    def begin(self, capacity):
        return self

    def propose(self, ids, params, uniform):
        first = len(ids) - self.start
        places = range(first, min(first + len(uniform), len(self.answer)))
        return Draft([(self.answer[i] + (i in self.wrong)) % 97 for i in places], None)

    def keep(self, length):
        pass


def test_rounds_tell_what_happened():
    answer = EXPECTED[0][:12]
    script = Script(PROMPTS[0], answer, wrong={1, 7})
    output = SpeculativeDecoder(TARGET, script, 3).generate(
        PROMPTS[0], SamplingParams(max_tokens=12)
    )
    a = answer
    assert output.rounds == (
        Round((a[0], (a[1] + 1) % 97, a[2]), 1, a[1]),  # the second guess is refused
        Round((a[2], a[3], a[4]), 3, a[5]),  # all accepted, and the bonus
        Round((a[6], (a[7] + 1) % 97, a[8]), 1, a[7]),
        Round((a[8], a[9], a[10]), 3, a[11]),
    )
    counts = output.counts
    assert (counts.drafted, counts.accepted, counts.rejected) == (12, 8, 2)
    assert counts.acceptance == 0.8 and counts.tokens_per_round == 3


def test_only_what_a_cache_lacks_is_fed(monkeypatch):
    fed = {id(TARGET): [], id(CLOSE): []}
    step = speculative._step

    def note(model, cache, tokens, rows):
        fed[id(model)].append(tokens.shape[1])
        return step(model, cache, tokens, rows)

    monkeypatch.setattr(speculative, "_step", note)
    prompt = PROMPTS[0]
    output = SpeculativeDecoder(TARGET, CLOSE, 3).generate(prompt, SamplingParams(max_tokens=60))
    rounds = [r for r in output.rounds if len(r.drafted) == 3]
    assert fed[id(TARGET)][: len(rounds)] == [len(prompt) + 3] + [4] * (len(rounds) - 1)
    # after a round accepted in full the draft catches up with its own last guess and the bonus
    behind = [len(prompt)] + [2 if r.accepted == 3 else 1 for r in rounds[:-1]]
    assert {1, 2} <= set(behind)
    assert fed[id(CLOSE)][: 3 * len(rounds)] == [n for first in behind for n in (first, 1, 1)]


def test_lookup_copies_what_followed():
    params = SamplingParams()
    propose = LookupDrafter(longest=2).propose
    assert propose([1, 2, 7, 7, 1, 2, 8, 8, 1, 2], params, [0.0] * 3).tokens == [8, 8, 1]
    assert propose([5, 2, 7, 1, 2], params, [0.0] * 2).tokens == [7, 1]  # only the last token
    assert propose([1, 2, 3], params, [0.0] * 2).tokens == []
    assert propose([1], params, [0.0]).tokens == []
    with pytest.raises(ValueError, match="longest is 0"):
        LookupDrafter(longest=0)


def test_lookup_changes_no_token():
    for prompt, expected in zip(PROMPTS, EXPECTED, strict=True):
        prompt = prompt + expected + prompt  # repetition, so that it finds something
        output = SpeculativeDecoder(TARGET, LookupDrafter()).generate(
            prompt, SamplingParams(max_tokens=12)
        )
        assert output.tokens == greedy(TARGET, prompt, 12)
        assert output.counts.drafted > 0


def test_streams_do_not_disturb_each_other():
    decoder = SpeculativeDecoder(TARGET, CLOSE)
    params = SamplingParams(max_tokens=TOKENS)
    streams = [decoder.stream(prompt, params) for prompt in PROMPTS]
    tokens: list[list[int]] = [[] for _ in PROMPTS]
    running = list(range(len(PROMPTS)))
    while running:
        for index in list(running):
            done = next(streams[index], None)
            assert not torch.is_inference_mode_enabled()  # nor the one who reads them
            if done is None:
                running.remove(index)
            else:
                tokens[index].extend(done.tokens)
    assert tokens == EXPECTED


# --- the book's own models ------------------------------------------------------------------------

OPENINGS = (
    "def read(path, encoding=None):\n    return",
    "The order of evaluation of",
    "import os\nimport sys\n\nclass Test",
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_shipped_models_decode_as_the_target_alone(dtype):
    target, tokenizer = load("target", dtype), load_tokenizer()
    decoders = [SpeculativeDecoder(target, load(name, dtype)) for name in ("draft", "stranger")]
    for opening in OPENINGS:
        prompt = tokenizer.encode(opening)
        expected = greedy(target, prompt, 24)
        for decoder in decoders:
            tokens = decoder.generate(prompt, SamplingParams(max_tokens=24)).tokens
            assert_same(target, prompt, tokens, expected)


# --- sampled --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAFTS)
def test_a_seed_gives_the_same_tokens_again(name):
    decoder = SpeculativeDecoder(TARGET, DRAFTS[name])
    params = SamplingParams(max_tokens=TOKENS, temperature=0.9, top_k=20, top_p=0.95, seed=5)
    first, second = (decoder.generate(PROMPTS[0], params) for _ in range(2))
    assert first == second and len(first.tokens) == TOKENS
    other = SamplingParams(max_tokens=TOKENS, temperature=0.9, top_k=20, top_p=0.95, seed=6)
    assert decoder.generate(PROMPTS[0], other).tokens != first.tokens
    if name == "itself":  # q is p, so no guess can be refused
        assert first.counts.rejected == 0


def test_requests_without_a_seed_differ():
    params = SamplingParams(max_tokens=TOKENS, temperature=1.0)
    decoder = SpeculativeDecoder(TARGET, CLOSE, seed=11)
    first, second = (decoder.generate(PROMPTS[0], params) for _ in range(2))
    assert first.tokens != second.tokens
    again = SpeculativeDecoder(TARGET, CLOSE, seed=11).generate(PROMPTS[0], params)
    assert again == first


@pytest.mark.parametrize("drafter", [CLOSE, LookupDrafter()])
def test_sampling_from_one_token_is_greedy(drafter):
    params = SamplingParams(max_tokens=TOKENS, temperature=1.0, top_k=1, seed=0)
    for prompt, expected in zip(PROMPTS, EXPECTED, strict=True):
        assert SpeculativeDecoder(TARGET, drafter).generate(prompt, params).tokens == expected


VOCAB, LENGTH, TRIALS = 3, 3, 800
SIZES = dict(vocab=VOCAB, layers=1, d_model=8, heads=2, kv_heads=1, head_dim=4, ffn=8, context=16)
#: chance that the test refuses a decoder that is right
FALSE_ALARM = 1e-4


class Hotter(ModelDrafter):
    """Wrong: draws at another temperature than the probabilities it hands over."""

    def begin(self, capacity):
        return Hotter(self.model, super().begin(capacity).cache)

    def propose(self, ids, params, uniform):
        held = self.cache.length
        other = SamplingParams(temperature=3 * params.temperature)
        drawn = super().propose(ids, other, uniform)
        self.cache.truncate(held)
        fed = torch.tensor([ids[held:] + drawn.tokens])
        logits = speculative._step(self.model, self.cache, fed, rows=len(drawn.tokens) + 1)
        q = speculative._probabilities(logits[:-1], params).unsqueeze(0)
        return Draft(drawn.tokens, q)


def sampled_p_value(drafter, prompt: list[int], temperature: float, trials: int = TRIALS) -> float:
    """G-test of the first LENGTH tokens against the target's joint distribution."""
    target = tiny.model(seed=1, **SIZES)
    chances = np.ones((VOCAB,) * LENGTH)
    with torch.inference_mode():
        for tokens in np.ndindex(chances.shape):
            ids = prompt + list(tokens)
            p = (target(torch.tensor([ids]))[0] / temperature).softmax(-1)
            for place, token in enumerate(tokens):
                chances[tokens] *= float(p[len(prompt) - 1 + place, token])
    assert chances.sum() == pytest.approx(1)
    decoder = SpeculativeDecoder(target, drafter, draft_tokens=2, seed=0)
    params = SamplingParams(max_tokens=LENGTH + 1, temperature=temperature)
    counted = np.zeros(chances.shape)
    for _ in range(trials):
        # one token more than counted, so that the first round is a full one with its bonus
        counted[tuple(decoder.generate(prompt, params).tokens[:LENGTH])] += 1
    return stats.power_divergence(
        counted.ravel(), chances.ravel() * trials, lambda_="log-likelihood"
    ).pvalue


@pytest.mark.parametrize("kind", ["model", "lookup"])
def test_sampled_tokens_have_the_targets_distribution(kind):
    draft = tiny.model(seed=2, **SIZES) if kind == "model" else LookupDrafter()
    assert sampled_p_value(draft, prompt=[2, 1, 0, 0, 2], temperature=0.7) > FALSE_ALARM


def test_a_draft_drawn_at_another_temperature_is_noticed():
    wrong = Hotter(tiny.model(seed=2, **SIZES))
    assert sampled_p_value(wrong, prompt=[2, 1, 0, 0, 2], temperature=0.7) < 1e-12


# --- what cannot be served ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], {}, "prompt is empty"),
        ([97], {}, "prompt holds 97 at place 0; tokens are whole numbers from 0 to 96"),
        ([-1], {}, "prompt holds -1"),
        (
            [1] * 128,
            {},
            "prompt has 128 tokens; the context of 128 must hold it and at least one more",
        ),
        ([1], {"temperature": -0.5}, "temperature is -0.5"),
        ([1], {"max_tokens": 0}, "max_tokens is 0"),
        ([1], {"n": 2}, "n is 2"),
        ([1], {"stop": "end"}, "stop is"),
        ([True], {}, "prompt holds True"),
        ("text", {}, "prompt is a str"),
        (7, {}, "prompt is int"),
    ],
)
def test_bad_requests_are_refused_at_once(prompt, params, message):
    decoder = SpeculativeDecoder(TARGET, UNRELATED)
    with pytest.raises(RequestError, match=message):
        decoder.stream(prompt, SamplingParams(**params))
    assert decoder.generate([1, 2], SamplingParams(max_tokens=2)).tokens == greedy(
        TARGET, [1, 2], 2
    )


def test_sequences_of_other_kinds_are_prompts_too():
    decoder = SpeculativeDecoder(TARGET, UNRELATED)
    for prompt in (torch.tensor([5, 3]), np.array([5, 3]), (5, 3)):
        output = decoder.generate(prompt, SamplingParams(max_tokens=4))
        assert output.prompt_tokens == [5, 3] and output.tokens == greedy(TARGET, [5, 3], 4)
    with pytest.raises(RequestError, match=r"params is \{\}"):
        decoder.generate([1], {})


def with_nan(token: int) -> Transformer:
    broken = copy.deepcopy(TARGET)
    broken.embedding.weight[token] = math.nan
    return broken


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("drafter", [LookupDrafter(), TARGET])
def test_scores_that_are_no_numbers_are_an_error(temperature, drafter):
    decoder = SpeculativeDecoder(with_nan(96), drafter)
    params = SamplingParams(max_tokens=4, temperature=temperature, seed=1)
    with pytest.raises(RequestError, match="not finite"):
        decoder.generate([3, 96], params)


class Always:
    """A drafter that says one token again and again."""

    def __init__(self, token: int):
        self.token = token

    def begin(self, capacity):
        return self

    def propose(self, ids, params, uniform):
        return Draft([self.token] * len(uniform), None)

    def keep(self, length):
        pass


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_nobody_needs_may_be_anything(temperature):
    """Behind a wrong guess, or behind the end of the text."""
    expected = EXPECTED[0]
    token = next(t for t in range(97) if t not in expected and t not in PROMPTS[0])
    params = {"temperature": temperature, "top_k": 1, "seed": 0}
    decoder = SpeculativeDecoder(with_nan(token), Always(token))
    output = decoder.generate(PROMPTS[0], SamplingParams(max_tokens=TOKENS, **params))
    assert output.tokens == expected and output.counts.accepted == 0
    end = expected[0]
    assert end not in PROMPTS[0]
    decoder = SpeculativeDecoder(with_nan(end), Always(end), end_token=end)
    output = decoder.generate(PROMPTS[0], SamplingParams(max_tokens=TOKENS, **params))
    assert output.tokens == [end] and output.finish == "stop"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_without_numbers_only_guesses_less(temperature):
    params = SamplingParams(max_tokens=TOKENS, temperature=temperature, top_k=1, seed=0)
    decoder = SpeculativeDecoder(TARGET, with_nan(PROMPTS[0][0]))
    assert decoder.generate(PROMPTS[0], params).tokens == EXPECTED[0]


def test_bad_decoders_are_refused():
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match="seed is"):
            SpeculativeDecoder(TARGET, UNRELATED, seed=seed)
    with pytest.raises(ValueError, match="draft has a vocabulary of 50; the target's is 97"):
        SpeculativeDecoder(TARGET, tiny.model(vocab=50))
    for count in (0, 1.5, True):
        with pytest.raises(ValueError, match="draft_tokens is"):
            SpeculativeDecoder(TARGET, UNRELATED, draft_tokens=count)
