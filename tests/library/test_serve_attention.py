"""Attention over blocks: equal to the model without a cache, whatever is packed together."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from helpers.serve.attention import WORTH_A_CALL, PagedAttention, group_lengths
from helpers.serve.blocks import BlockManager
from helpers.serve.cache import ContiguousCache, PagedCache

SHAPES = [
    {"heads": 4, "kv_heads": 4},
    {"heads": 4, "kv_heads": 2},
    {"heads": 4, "kv_heads": 1},
    {"heads": 4, "kv_heads": 2, "head_dim": 6},
]
MODELS = [tiny.model(seed=place, **shape) for place, shape in enumerate(SHAPES)]
each_model = pytest.mark.parametrize("model", MODELS, ids=[str(shape) for shape in SHAPES])
EXACT = {"rtol": 0, "atol": 1e-12}


class Server:
    """As little of an engine as attention needs: texts, a manager, a cache, one model.

    ``step`` packs any parts of any texts, computes them and returns each part's logits.
    """

    def __init__(self, model, blocks=200, block_size=4, dtype=None, scatter=None, caching=True):
        self.model = model
        self.manager = BlockManager(blocks, block_size, prefix_caching=caching)
        self.cache = PagedCache(model.config, blocks, block_size, dtype or model.dtype)
        if scatter is not None:  # empty blocks in any order, so that no table is a run
            random.Random(scatter).shuffle(self.manager._empty)
        self.texts: dict[str, list[int]] = {}
        self.done: dict[str, int] = {}

    def add(self, name, text):
        self.texts[name] = list(text)
        self.done[name] = self.manager.allocate(name, text)
        return self.done[name]

    def append(self, name, token):
        self.cache.copy(self.manager.append(name, token))
        self.texts[name].append(token)

    def fork(self, name, child):
        self.manager.fork(name, child)
        self.texts[child], self.done[child] = list(self.texts[name]), self.done[name]

    def truncate(self, name, length):
        self.manager.truncate(name, length)
        del self.texts[name][length:]
        self.done[name] = min(self.done[name], length)

    @torch.inference_mode()
    def step(self, **counts):
        """Compute the next ``counts[name]`` tokens of each text; None: all that are left."""
        batch, tokens, positions = [], [], []
        for name, wanted in counts.items():
            start = self.done[name]
            end = len(self.texts[name]) if wanted is None else start + wanted
            batch.append((self.manager.table(name), start, end - start))
            tokens += self.texts[name][start:end]
            positions += range(start, end)
            self.done[name] = end
        attend = PagedAttention(self.cache, batch)
        logits = self.model(torch.tensor(tokens), torch.tensor(positions), attend)
        return dict(zip(counts, logits.split([count for _, _, count in batch]), strict=True))

    def greedy(self, name, count):
        """Prompt, then one token after the other; their tokens and logits."""
        scores = [self.step(**{name: None})[name][-1]]
        for _ in range(count - 1):
            self.append(name, int(scores[-1].argmax()))
            scores.append(self.step(**{name: 1})[name][-1])
        return [int(score.argmax()) for score in scores], torch.stack(scores)


@torch.inference_mode()
def alone(model, text):
    """Logits of every token without any cache."""
    return model(torch.tensor(text))


@torch.inference_mode()
def contiguous(model, prompt, count):
    """Greedy tokens and their logits with a contiguous cache."""
    cache = ContiguousCache(model.config, 1, len(prompt) + count, dtype=model.dtype)
    fed, scores = prompt, []
    for _ in range(count):
        scores.append(model.logits(cache.forward(model, torch.tensor([fed]))[0, -1]))
        fed = [int(scores[-1].argmax())]
    return [int(score.argmax()) for score in scores], torch.stack(scores)


def texts(seed, *lengths):
    draw = random.Random(seed)
    return [[draw.randrange(97) for _ in range(length)] for length in lengths]


# --- only its own --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "int8", "bfloat16"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_others_left_changes_nothing(dtype, bad):
    """No number but a sequence's own reaches it: not by filled-up tables, not behind its tokens."""

    def run(poisoned):
        server = Server(MODELS[1], block_size=4, dtype=dtype)

        def poison(blocks):
            for part in server.cache.keys + server.cache.values if poisoned else ():
                if part.is_floating_point():
                    part[:, blocks] = bad

        server.add("other", [1, 2, 3, 4])
        poison(list(range(200)))
        for name, text in zip("abc", texts(4, 9, 2, 21), strict=True):
            server.add(name, text)
        scores = [server.step(a=None, b=None, c=7)]
        for token in range(6):
            own = {block for name in "abc" for block in server.manager.table(name)}
            poison([block for block in range(200) if block not in own])
            for name in "ab":
                server.append(name, token)
            scores.append(server.step(a=1, b=1, c=2))
        return scores

    for clean, dirty in zip(run(False), run(True), strict=True):
        for name, logits in clean.items():
            assert logits.isfinite().all() and torch.equal(logits, dirty[name])


# --- paged = contiguous = uncached ---------------------------------------------------------------


@each_model
@settings(max_examples=8)
@given(
    length=st.integers(1, 23),
    block_size=st.sampled_from([1, 2, 3, 5, 16]),
    scatter=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 99),
)
def test_paged_is_contiguous_is_uncached(model, length, block_size, scatter, seed):
    [prompt] = texts(seed, length)
    server = Server(model, 64, block_size, scatter=scatter)
    server.add("a", prompt)
    tokens, scores = server.greedy("a", 8)
    expected, expected_scores = contiguous(model, prompt, 8)
    assert tokens == expected
    torch.testing.assert_close(scores, expected_scores, **EXACT)
    torch.testing.assert_close(scores, alone(model, prompt + tokens[:-1])[length - 1 :], **EXACT)


# --- any mixture = each alone --------------------------------------------------------------------


@each_model
@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=5),
    block_size=st.sampled_from([1, 3, 4]),
    scatter=st.sampled_from([None, 0]),
    seed=st.integers(0, 10**6),
)
def test_mixed_batches_are_each_alone(model, lengths, block_size, scatter, seed):
    """Texts cut into chunks of any length, single tokens among them, packed in any order."""
    draw = random.Random(seed)
    server = Server(model, 90, block_size, scatter=scatter)
    names = [f"s{i}" for i in range(len(lengths))]
    for name, text in zip(names, texts(seed, *lengths), strict=True):
        server.add(name, text)
    got = {name: [alone(model, server.texts[name])[: server.done[name]]] for name in names}
    while left := [name for name in names if server.done[name] < len(server.texts[name])]:
        chosen = draw.sample(left, draw.randint(1, len(left)))
        counts = {
            name: draw.choice([1, draw.randint(1, len(server.texts[name]) - server.done[name])])
            for name in chosen
        }
        for name, logits in server.step(**counts).items():
            got[name].append(logits)
    for name in names:
        torch.testing.assert_close(torch.cat(got[name]), alone(model, server.texts[name]), **EXACT)


def test_a_mixture_of_everything():
    """Decoding rows before, between and behind prompts, whole and chunked, long and short."""
    model = MODELS[1]
    server = Server(model, 300, 3, scatter=3)
    names, lengths = "abcdef", (30, 7, 100, 2, 9, 120)
    for name, text in zip(names, texts(5, *lengths), strict=True):
        server.add(name, text)
    server.step(a=29, c=99, d=1, e=4, f=119)
    for name, logits in server.step(a=1, b=7, c=1, d=1, e=5, f=1).items():
        expected = alone(model, server.texts[name])[-len(logits) :]
        torch.testing.assert_close(logits, expected, **EXACT)


@each_model
@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1, 1), (2, 5), (3, 1, 3), (6, 1)], ids=str)
@pytest.mark.parametrize("dtype", [None, "int8", "int4", "float32"])
def test_chunked_prefill_is_whole_prefill(model, cuts, dtype):
    """In any format: what is computed reads what is stored, its own chunk too."""
    [text] = texts(8, 7)
    whole, chunked = Server(model, dtype=dtype), Server(model, dtype=dtype, scatter=1)
    whole.add("a", text)
    chunked.add("a", text)
    pieces = torch.cat([chunked.step(a=cut)["a"] for cut in cuts])
    torch.testing.assert_close(pieces, whole.step(a=None)["a"], rtol=0, atol=1e-11)


# --- shared blocks -------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("block_size", [1, 3, 4])
@pytest.mark.parametrize("length", [5, 6, 8])
def test_after_a_fork_both_branches_are_separate_runs(model, block_size, length):
    [prompt] = texts(length, length)
    server = Server(model, 64, block_size)
    server.add("a", prompt)
    server.step(a=None)
    server.fork("a", "b")
    server.fork("b", "c")
    branches = {"a": [1, 2, 3, 4, 5], "b": [1, 9, 8, 7, 6], "c": [4, 4, 4, 4, 4]}
    got = {name: [] for name in branches}
    for place in range(5):
        for name, tokens in branches.items():
            server.append(name, tokens[place])
        for name, logits in server.step(a=1, b=1, c=1).items():
            got[name].append(logits)
    for name, tokens in branches.items():
        expected = alone(model, prompt + tokens)[length:]
        torch.testing.assert_close(torch.cat(got[name]), expected, **EXACT)


@each_model
@pytest.mark.parametrize("block_size", [1, 3, 4])
def test_a_prefix_hit_is_computed_fresh(model, block_size):
    shared, *ends = texts(2, 13, 4, 1, 6)
    server = Server(model, 64, block_size)
    server.add("a", shared + ends[0])
    server.step(a=None)
    server.manager.free("a")
    for name, end in zip("bc", ends[1:], strict=True):
        text = shared + end
        hits = server.add(name, text)
        assert hits == 13 // block_size * block_size
        logits = server.step(**{name: None})[name]
        torch.testing.assert_close(logits, alone(model, text)[hits:], **EXACT)


def test_who_hits_a_prefix_in_the_step_that_computes_it():
    """Each layer writes all rows before any is read."""
    model = MODELS[1]
    [text] = texts(3, 10)
    server = Server(model)
    assert server.add("a", text) == 0
    assert server.add("b", [*text[:9], 5, 6]) == 8
    logits = server.step(b=None, a=None)
    torch.testing.assert_close(logits["b"], alone(model, server.texts["b"])[8:], **EXACT)
    torch.testing.assert_close(logits["a"], alone(model, text), **EXACT)


@each_model
@pytest.mark.parametrize("block_size", [1, 3, 4])
def test_guesses_taken_back_leave_no_trace(model, block_size):
    [text] = texts(4, 11)
    server = Server(model, 64, block_size)
    server.add("a", text[:6])
    server.step(a=None)
    server.fork("a", "b")  # must not notice
    for _ in range(2):
        for guess in (0, 1, 2, 3):
            server.append("a", guess)
        server.step(a=4)
        server.truncate("a", 6)
    for name in "ab":
        for token in text[6:]:
            server.append(name, token)
    for logits in server.step(a=None, b=None).values():
        torch.testing.assert_close(logits, alone(model, text)[6:], **EXACT)


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 1e-5), ("bfloat16", 0.3), ("int8", 0.2), ("int4", 5.0)]
)
def test_fewer_bits_cost_accuracy_and_not_more(dtype, most):
    """Logits of this model are some 5 wide; the error grows as the bits shrink."""
    model = MODELS[1]
    [text] = texts(6, 40)
    server = Server(model, dtype=dtype)
    server.add("a", text)
    error = (server.step(a=None)["a"] - alone(model, text)).abs().mean()
    assert 0 < error < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes(dtype):
    model = tiny.model(seed=1, dtype=dtype)
    [text] = texts(7, 20)
    server = Server(model)
    server.add("a", text)
    server.add("b", text[5:10])
    server.step(a=15, b=4)
    logits = torch.cat([server.step(a=1, b=1)["a"], server.step(a=4)["a"]])
    assert logits.dtype == dtype
    expected = alone(model.double(), text)[15:]
    close = {"rtol": 0, "atol": 1e-4 if dtype == torch.float32 else 1.0}
    torch.testing.assert_close(logits.double(), expected, **close)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [None, "int8", "bfloat16"])
def test_on_a_gpu(dtype):
    model = tiny.model(seed=1, dtype=torch.float32).to("cuda")
    cache = PagedCache(model.config, 20, 4, dtype or model.dtype, device="cuda")
    on_cpu = PagedCache(model.config, 20, 4, dtype or model.dtype)
    batches = [[([3, 1], 0, 5), ([7, 2, 9], 0, 9)], [([3, 1], 5, 1), ([7, 2, 9], 9, 1)]]
    batches.append([([3, 1], 6, 2), ([7, 2, 9], 10, 1), ([5], 0, 3)])
    for batch in batches:
        tokens = torch.arange(sum(count for _, _, count in batch)) % 97
        positions = torch.cat([torch.arange(start, start + n) for _, start, n in batch])
        with torch.inference_mode():
            got = model(tokens.cuda(), positions.cuda(), PagedAttention(cache, batch)).cpu()
            expected = model.cpu()(tokens, positions, PagedAttention(on_cpu, batch))
        model.cuda()
        torch.testing.assert_close(got, expected, rtol=0, atol=0.05 if dtype else 1e-3)


# --- the plan ------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(1, 3000), max_size=20))
def test_groups_hold_each_sequence_once_and_little_padding(lengths):
    groups = group_lengths(lengths)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    calls = len(groups)
    padded = sum(len(group) * max(lengths[place] for place in group) for group in groups)
    # never worse than all in one call, each further call counted as what it is worth
    assert not lengths or padded + (calls - 1) * WORTH_A_CALL <= len(lengths) * max(lengths)
    for group in groups:
        assert group == sorted(group)
        of_group = sorted((lengths[place] for place in group), reverse=True)
        for cut in range(1, len(group)):  # and no cut of a group would pay
            saved = (len(group) - cut) * (of_group[0] - of_group[cut])
            assert saved <= WORTH_A_CALL


def test_layers_do_few_operations(report):
    """What is the same for all layers is not done again in each."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(str(function))
            return function(*args, **(kwargs or {}))

    model = MODELS[1]
    for rows, most in ((1, 25), (16, 25)):
        cache = PagedCache(model.config, 160, 4, model.dtype)
        tables = [list(range(i, 160, 16)) for i in range(rows)]
        attend = PagedAttention(cache, [(table, 20 + i, 1) for i, table in enumerate(tables)])
        q, k = torch.randn(rows, 4, 8).double(), torch.randn(rows, 2, 8).double()
        attend(0, q, k, k)
        with torch.no_grad(), Count() as counted:
            attend(1, q, k, k)
        assert len(counted.names) <= most
        assert sum("attention" in name for name in counted.names) == 1
        report(f"operations of attention in a layer, {rows} decoding", len(counted.names))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([([0, 1], 6, 3)], r"batch\[0\] has 2 blocks of 4; its 9 tokens need 3"),
        ([([0], 0, 1), ([1], -1, 1)], r"batch\[1\] starts at -1 with 1 new"),
        ([([0], 0, 0)], r"batch\[0\] starts at 0 with 0 new tokens"),
        ([([9], 0, 1)], r"batch\[0\] has the blocks \[9\]; blocks are 0 to 8"),
        ([], "batch is empty; it must hold one or more sequences"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        PagedAttention(PagedCache(tiny.config(), 9, 4), batch)


def test_a_batch_and_its_tokens_must_agree():
    model = MODELS[0]
    attend = PagedAttention(PagedCache(model.config, 9, 4, model.dtype), [([0], 0, 3)])
    with pytest.raises(ValueError, match="q has 2 rows; the batch has 3 new tokens"):
        model(torch.tensor([1, 2]), torch.tensor([0, 1]), attend)
