"""The kernel of paged attention in Triton's interpreter: run as a program, with TRITON_INTERPRET=1.

It is a program because the interpreter is chosen when Triton is imported. The tests beside it
import the cases.
"""

from __future__ import annotations

import importlib.util
import itertools
import random
import sys
import tempfile
from pathlib import Path

import torch

import helpers.kernels
from helpers import kernels

LENGTHS = (1, 15, 16, 17, 31, 100)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
NAME = "helpers.kernels.paged_attention_kernel"

#: wrong kernels: what is changed in the text, and to what
PLANTS = {
    "mask one too far": ("position < length", "position <= length"),
    "mask one too near": ("position < length", "position < length - 1"),
    "scores not masked": ("tl.where(inside[None, :], scores,", "tl.where(position >= 0, scores,"),
    "table ignored": (
        "tl.load(table_ptr + position // BLOCK_SIZE, mask=inside, other=0)",
        "position // BLOCK_SIZE",
    ),
    "the first sequence's table for all": ("sequence * most_blocks", "0 * most_blocks"),
    "always a block's first token": (" + position % BLOCK_SIZE", ""),
    "scale missing": (" * scale", ""),
    "older sum not shrunk": ("weight * shrink", "weight"),
    "older values not shrunk": ("total * shrink[:, None]", "total"),
    "a neighbour's queries": (
        "(sequence * KV_HEADS + kv_head) * GROUP + row",
        "sequence * KV_HEADS * GROUP + row * KV_HEADS + kv_head",
    ),
    "keys of the first head only": (" * KV_HEADS + kv_head) * D", " * KV_HEADS) * D"),
}  # fmt: skip


def case(
    lengths=LENGTHS, *, group=2, kv_heads=2, dim=32, block_size=16, dtype=torch.float32,
    device="cpu", seed=0, shared=False, hostile=False, loudness=1.0,
):  # fmt: skip
    """Arguments of one call: a random cache, and tables that scatter over it.

    ``shared``: all begin with the same block. ``hostile``: whatever must not be read is NaN, and
    the tables are padded with blocks that do not exist. ``loudness`` times larger queries make
    scores whose exponential overflows unless the highest is taken off.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-length // block_size) for length in lengths]
    most, blocks = max(counts) + 1, sum(counts) + 3
    order = random.Random(seed).sample(range(blocks), blocks)
    rows = [[order.pop() for _ in range(count)] for count in counts]
    if shared:
        rows = [rows[-1][:1] + row[1:] for row in rows]
    padding = 10**6 if hostile else order.pop()
    tables = [row + [padding] * (most - len(row)) for row in rows]
    owned = torch.zeros(blocks, block_size, dtype=torch.bool)
    for row, length in zip(rows, lengths, strict=True):
        for position in range(length):
            owned[row[position // block_size], position % block_size] = True

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    q = normal(len(lengths), kv_heads * group, dim) * loudness
    keys, values = (normal(blocks, block_size, kv_heads, dim) for _ in range(2))
    if hostile:
        keys[~owned], values[~owned] = torch.nan, torch.nan
    numbers = torch.tensor(tables, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32)
    return [tensor.to(device) for tensor in (q, keys, values, *numbers)]


def agree(arguments, got=None, **options):
    """Compare the kernel, or what is given, with the reference."""
    want = kernels.paged_attention_reference(*arguments, scale=options.get("scale"))
    got = kernels.paged_attention(*arguments, **options) if got is None else got
    tolerance = TOLERANCE[want.dtype]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def over_awkward_cases():
    """Everything that may differ, once each with everything else that may go wrong with it."""
    for dtype, group, dim in itertools.product(
        (torch.float32, torch.float16), (1, 2, 4, 8), (32, 64, 128)
    ):
        arguments = case(group=group, dim=dim, dtype=dtype, seed=group + dim, hostile=True)
        agree(arguments)
        agree(arguments, tile=16)
    for dtype in (torch.float32, torch.float16):
        agree(case(dtype=dtype, shared=True, hostile=True), tile=32)
        agree(case(dtype=dtype, loudness=60.0), tile=16)
        agree(case(dtype=dtype), scale=0.3)
        agree(case(dtype=dtype, kv_heads=1, group=32))  # more than 16 rows
        agree(case(dtype=dtype, kv_heads=3, group=3, dim=16))  # neither a power of two
        for block_size in (1, 4, 128):  # a tile of many blocks, a block of many tiles
            agree(case(dtype=dtype, block_size=block_size, hostile=True), tile=16)
    arguments = case()
    agree([*arguments[:3], *(numbers.long() for numbers in arguments[3:])])
    none = [arguments[0][:0], *arguments[1:3], *(numbers[:0] for numbers in arguments[3:])]
    assert kernels.paged_attention(*none).shape == (0, 4, 32)


def with_the_engine():
    """A decoding step of a tiny model: the engine's attention and the kernel, layer by layer."""
    import tiny
    from helpers.serve.attention import PagedAttention
    from helpers.serve.cache import PagedCache

    model = tiny.model(dtype=torch.float32, head_dim=32)
    cache = PagedCache(model.config, blocks=12, block_size=4)
    tables, lengths = [[7, 2, 9], [7, 0, 5], [11, 3, 1]], [9, 6, 1]  # the first two share a block
    prefix = [5, 3, 96, 8]
    texts = [[*prefix, 4, 4, 90, 1, 2], [*prefix, 17, 2], [44]]
    compared = []
    with torch.inference_mode():
        for table, text in zip(tables, texts, strict=True):  # all but the last token
            if before := text[:-1]:
                attend = PagedAttention(cache, [(table, 0, len(before))])
                model.hidden(torch.tensor(before), torch.arange(len(before)), attend)
        engine = PagedAttention(
            cache, [(table, length - 1, 1) for table, length in zip(tables, lengths, strict=True)]
        )

        def both(layer, q, k, v):
            out = engine(layer, q, k, v)  # stores the new keys and values first
            arguments = (
                q.contiguous(), cache.keys[0][layer], cache.values[0][layer],
                torch.tensor(tables, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32),
            )  # fmt: skip
            torch.testing.assert_close(
                kernels.paged_attention(*arguments), out, rtol=1e-5, atol=1e-5
            )
            compared.append(layer)
            return out

        last = torch.tensor([text[-1] for text in texts])
        model.hidden(last, torch.tensor(lengths) - 1, both)
    assert compared == list(range(model.config.layers))


def plants():
    """The comparison must notice each wrong kernel, and nothing in the right one."""
    text = Path(helpers.kernels.__file__).with_name("paged_attention_kernel.py").read_text("utf-8")
    arguments = case(dim=32, block_size=16, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        for place, (name, (right, wrong)) in enumerate({"none": ("", ""), **PLANTS}.items()):
            assert right in text, f"{name}: {right!r} is not in the kernel any more"
            path = Path(folder) / f"planted_{place}.py"
            path.write_text(text.replace(right, wrong) if right else text, "utf-8")
            spec = importlib.util.spec_from_file_location(NAME, path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[NAME] = module
            try:
                agree(arguments, tile=16)
            except AssertionError:
                noticed = True
            else:
                noticed = False
            assert noticed == (name != "none"), f"{name}: noticed is {noticed}"
    del sys.modules[NAME]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for tiny
    torch.set_num_threads(1)
    assert kernels.how() == "interpreter", kernels.how()
    over_awkward_cases()
    with_the_engine()
    plants()
    try:
        kernels.paged_attention(*case(dtype=torch.bfloat16))
    except NotImplementedError as error:
        assert "bfloat16" in str(error)
    else:
        raise AssertionError("bf16 must be refused in the interpreter")
    print("the kernel agrees")
