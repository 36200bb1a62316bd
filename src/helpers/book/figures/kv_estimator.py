"""Tables and the bar of the lab *Size any cache*: every model, real start-up logs, chips."""

from __future__ import annotations

from helpers import catalog
from helpers.book.picture import Picture, picture
from helpers.book.style import INK
from helpers.book.tables import Cell, Column, Table
from helpers.formulas.kv_estimate import CacheEstimate, CacheLayout, LayerCache, layout_of
from helpers.formulas.kv_pool import ServerPool
from helpers.formulas.kv_startup import StartupPrediction
from helpers.formulas.kv_startup_cases import CASES, StartupCase

GIB, KIB = 2**30, 2**10
SESSION = 131_072  # tokens: 128K


def _whole(value: int) -> Cell:
    return Cell(f"{value:,}", float(value))


def _decimals(value: float, digits: int) -> Cell:
    return Cell(f"{value:,.{digits}f}", float(value))


# --- every model --------------------------------------------------------------------------------


def without_sharing(model: catalog.Model) -> CacheLayout:
    """The model with keys and values of its own for each query head: multi-head attention.

    Examples
    --------
    >>> print(without_sharing(catalog.model("llama-3.1-8b")))
    Llama 3.1 8B: 32 x MHA 32/32 x 128
    """
    if model.mla is not None:
        return layout_of(model, decompressed=True)
    layer = LayerCache(model.heads, model.heads, model.head_dim)
    return CacheLayout(model.name, model.layers * (layer,))


def mha_factor(model: catalog.Model) -> float:
    """How much more a token would take with multi-head attention of the same shape.

    Examples
    --------
    >>> mha_factor(catalog.model("llama-3.1-70b"))
    8.0
    """
    return (
        CacheEstimate(without_sharing(model)).bytes_per_token / CacheEstimate(model).bytes_per_token
    )


def model_table() -> Table:
    """Every model of the catalog: its kind, bytes per token, one long session, and MHA's factor."""
    rows = []
    for model in catalog.models():
        estimate = CacheEstimate(model)
        (layer,) = estimate.layout.kinds()
        per_token = estimate.bytes_per_token
        rows.append(
            [
                model.name,
                f"{model.layers} × {layer}".replace(" x ", " × "),
                _whole(per_token),
                Cell(f"{per_token / KIB:g}", per_token),
                _decimals(estimate.sequence_bytes(SESSION) / GIB, 3),
                _decimals(mha_factor(model), 1),
                _whole(model.context),
            ]
        )
    return Table(
        "The KV cache of every model of the catalog, 16-bit values",
        [
            Column("Model", text=True),
            Column("Layers", "query/KV heads × size", text=True),
            Column("A token", "B"),
            Column("A token", "KiB"),
            Column("A session", "of 131,072 tokens, GiB"),
            Column("With MHA", "times as much"),
            Column("Context", "tokens"),
        ],
        rows,
        note="The session is the same for all, also for models whose context ends earlier.",
    )


# --- start-up logs ------------------------------------------------------------------------------


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def startup_table(cases: tuple[StartupCase, ...] = CASES) -> Table:
    """What follows from the printed memory, beside what the servers printed."""
    rows = []
    for case in cases:
        predicted = case.prediction
        few, many = predicted.tokens[0], predicted.tokens[-1]
        ratios = [f"{predicted.concurrency(tokens):.2f}" for tokens in (few, many)]
        rows.append(
            [
                case.name,
                Cell(case.available_gib, float(case.available_gib)),
                Cell(_between(f"{few:,}", f"{many:,}"), float(few)),
                _whole(case.tokens),
                "yes" if case.tokens in predicted.tokens else "no",
                Cell(_between(*ratios), float(ratios[0])),
                Cell("" if case.concurrency is None else case.concurrency),
            ]
        )
    return Table(
        "Start-up logs of real servers: predicted from the printed memory, and printed",
        [
            Column("Server", text=True),
            Column("Memory", "GiB per GPU"),
            Column("Tokens", "predicted"),
            Column("Tokens", "printed"),
            Column("Inside", text=True),
            Column("Requests", "predicted"),
            Column("Requests", "printed"),
        ],
        rows,
        note="16-bit values, blocks of 16 tokens. Requests of the longest length that was allowed:"
        " 8,192 tokens, in the last row 20,000. An empty cell: we do not know the print.",
    )


def leftovers(case: StartupCase) -> tuple[float, float, int, float]:
    """Why a printed count is not the printed memory over the bytes of a token.

    Returns
    -------
    (float, float, int, float)
        That quotient; the tokens of it that fill no whole block; the blocks that are still between
        the rest and the print; and the most blocks that rounding the memory to hundredths of a GiB
        can hide, to either side.

    Examples
    --------
    >>> [round(part, 1) for part in leftovers(CASES[2])]
    [25755.6, 11.6, -1, 2.0]
    """
    estimate = case.estimate
    block = estimate.block_size
    quotient = float(case.available_gib) * GIB / estimate.rank_bytes_per_token
    part = quotient % block
    blocks = round((case.tokens - (quotient - part)) / block)
    return quotient, part, blocks, 0.005 * GIB / (block * estimate.rank_bytes_per_token)


@picture(
    "Five rows, one for each server. In each, five to seven rings: the counts of blocks that print"
    " the same memory; one of them is filled, the printed count. It is never beyond the rings.",
    "How close a prediction must come. *Rings: all counts of blocks whose memory prints the same"
    " hundredths of a GiB. Dot: the printed count.* The axis counts blocks from what the printed"
    " memory gives if it is taken as exact.",
    heights=(270, 300),
)
def startup_intervals(ax, m):
    ax.set(xlim=(-4, 4), ylim=(len(CASES) - 0.5, -0.5), xlabel="blocks of 16 tokens")
    ax.set_xticks(range(-4, 5))
    names = [case.name if m.wide else case.name.replace(", ", ",\n") for case in CASES]
    ax.set_yticks(range(len(CASES)), names, multialignment="right")
    ax.grid(axis="y", visible=False)
    for row, case in enumerate(CASES):
        quotient, part, off, _ = leftovers(case)
        for tokens in case.prediction.tokens:
            at = round((tokens - (quotient - part)) / 16)
            m.dot(ax, at, row, INK["bg"], mec=INK["c1"], zorder=4)
        m.dot(ax, off, row, color=INK["c2"])


def misreadings(case: StartupCase) -> dict[str, StartupPrediction]:
    """The right reading of a log, and wrong ones: what was misunderstood -> its prediction.

    Examples
    --------
    >>> for name, predicted in misreadings(CASES[0]).items():
    ...     print(f"{name:<38}", CASES[0].tokens in predicted.tokens)
    as it is                               True
    a key and value for each query head    False
    keys alone, values forgotten           False
    one byte a value                       False
    GB read for GiB                        False
    blocks of 32 tokens                    False
    4 heads of 256 for 8 of 128            True
    """
    model = catalog.model(case.model)
    (layer,) = layout_of(model).kinds()

    def predict(heads=layer.kv_heads, size=layer.head_dim, element="bf16", block=16, gib=None):
        layers = model.layers * (LayerCache(layer.heads, heads, size),)
        estimate = CacheEstimate(CacheLayout(model.name, layers), element, block, case.ranks)
        return StartupPrediction(estimate, gib or case.available_gib, case.request_tokens)

    few, wide = layer.kv_heads // 2, 2 * layer.head_dim
    return {
        "as it is": predict(),
        "a key and value for each query head": predict(heads=layer.heads),
        "keys alone, values forgotten": predict(size=layer.head_dim // 2),
        "one byte a value": predict(element="fp8"),
        # so many GB are fewer GiB
        "GB read for GiB": predict(gib=f"{float(case.available_gib) * 1e9 / GIB:.2f}"),
        "blocks of 32 tokens": predict(block=32),
        f"{few} heads of {wide} for {layer.kv_heads} of {layer.head_dim}": predict(few, wide),
    }


def misreadings_table(case: StartupCase = CASES[0]) -> Table:
    """Which misunderstandings of a cache its log refutes, and which it cannot see."""
    rows = []
    for name, predicted in misreadings(case).items():
        few, many = predicted.tokens[0], predicted.tokens[-1]
        inside = case.tokens in predicted.tokens
        rows.append(
            [
                name,
                Cell(f"{predicted.estimate.rank_bytes_per_token / KIB:g}"),
                f"{predicted.available_gib}",
                Cell(f"{few:,} to {many:,}", float(few)),
                "inside" if inside else "outside",
            ]
        )
    return Table(
        f"{case.name}: the log says {case.tokens:,} tokens. Who is refuted?",
        [
            Column("Reading", text=True),
            Column("A token", "KiB"),
            Column("Memory", "GiB"),
            Column("Tokens", "predicted"),
            Column("The print is", text=True),
        ],
        rows,
        sortable=False,
    )


# --- from a chip to users -----------------------------------------------------------------------

#: what a server may keep for itself on each GPU: a round number between those of real logs
OTHER = 4 * GIB
CONTEXT = 8192
#: model, bytes of a weight, chip, numbers of GPUs that share it
SERVED = (
    ("llama-3.1-8b", 2, "h100-sxm", (1, 2, 4, 8)),
    ("llama-3.1-70b", 1, "h100-sxm", (1, 2, 4, 8)),
    ("deepseek-v3", 1, "h200-sxm", (8, 16)),
)


def served_on(model: str, bytes_per_weight: float, chip: str, gpus: int) -> ServerPool:
    """A model with a 16-bit cache in blocks of 16 on some GPUs of a kind.

    Examples
    --------
    >>> [served_on("llama-3.1-8b", 2, "h100-sxm", gpus).users(8192) for gpus in (1, 2)]
    [48, 111]
    """
    shape = catalog.model(model)
    return ServerPool(
        CacheEstimate(shape, "bf16", 16, gpus),
        catalog.chip(chip).capacity,
        bytes_per_weight * shape.parameters,
        OTHER,
    )


def users_table(context: int = CONTEXT) -> Table:
    """How many users fit on how many GPUs: more than in proportion, for the weights are shared."""
    rows = []
    for model, bytes_per_weight, chip, counts in SERVED:
        for gpus in counts:
            pool = served_on(model, bytes_per_weight, chip, gpus)
            users = pool.users(context)
            rows.append(
                [
                    f"{catalog.model(model).name}, {8 * bytes_per_weight}-bit weights",
                    f"{gpus} × {catalog.chip(chip).short}",
                    _decimals(float(pool.rank_weight_bytes) / GIB, 1),
                    _decimals(pool.rank_pool_bytes / GIB, 1),
                    Cell(
                        f"{pool.estimate.rank_bytes_per_token / KIB:g}",
                        float(pool.estimate.rank_bytes_per_token),
                    ),
                    _whole(users),
                    _decimals(users / gpus, 1),
                ]
            )
    return Table(
        f"Users with {context:,} tokens each",
        [
            Column("Model", text=True),
            Column("GPUs", text=True),
            Column("Weights", "GiB per GPU"),
            Column("Left for the cache", "GiB per GPU"),
            Column("A token", "KiB per GPU"),
            Column("Users", "in all"),
            Column("Users", "per GPU"),
        ],
        rows,
        note=f"Nine tenths of the capacity may be used, {OTHER // GIB} GiB of each GPU go to"
        " activations and buffers, the cache has 16-bit values in blocks of 16 tokens.",
    )


_FREE = {"fc": "none", "ec": INK["muted"]}


def memory_bar(pool: ServerPool, context: int) -> Picture:
    """The memory of one GPU as a bar: weights, the rest, the caches of all users that fit.

    Parameters
    ----------
    pool : ServerPool
    context : int
        Tokens of each user.
    """
    users = pool.users(context)
    each = pool.estimate.rank_sequence_bytes(context)
    weights, other = pool.rank_weight_bytes, pool.rank_other_bytes
    memory, cache = pool.rank_memory_bytes, users * each
    sizes = [float(size) / GIB for size in (weights, other, cache, pool.rank_pool_bytes - cache)]
    names = ("weights", "activations, buffers", f"cache of {_users(users)}", "no room for one more")
    fills = ({"color": INK["c5"]}, {"color": INK["c3"]}, {"color": INK["c1"]}, _FREE)
    whole = float(memory) / GIB
    ranks = pool.estimate.tensor_parallel
    per_user = f"{each / GIB:,.3f} GiB for each user" + (" on each GPU" if ranks > 1 else "")
    over = float(weights + other - pool.rank_usable_bytes) / GIB
    said = (
        f"The weights and the rest are {over:,.1f} GiB too large."
        if over > 0
        else f"{_users(users).capitalize()} with {context:,} tokens"
        f" fit{'s' * (users == 1)}: {per_user}."
    )

    @picture(
        "A bar, the memory of one GPU from bottom to top: weights, activations and buffers, the"
        " caches of the users that fit, what is left over; a line where the server's share ends,"
        " and a thick one where the memory ends.",
        f"*{said}* Dashed: the share of the memory that the server allows itself.",
        heights=(330, 300),
    )
    def one_gpu(ax, m):
        top = 1.08 * max(whole, sum(sizes[:2]))
        ax.set(xlim=(0, 10), ylim=(0, top), ylabel="Memory of one GPU (GiB)")
        ax.set_xticks([])
        ax.grid(visible=False)
        bottom = 0.0
        for place, (name, size, fill) in enumerate(zip(names, sizes, fills, strict=True)):
            m.bar(ax, 1.9, 2.6, bottom, bottom + size, **fill)
            bottom += size
            at = (0.08 + 0.19 * place) * top
            m.bar(ax, 4.6, 0.3, at - 0.02 * top, at + 0.03 * top, **fill)
            _entry(ax, m, at, name, size)
        usable = float(pool.rank_usable_bytes) / GIB
        ax.plot([0.4, 3.4], [usable, usable], color=INK["fg"], lw=1.6, ls=(0, (4, 3)))
        ax.plot([0.2, 3.6], [whole, whole], color=INK["fg"], lw=2.5)
        ax.plot([4.4, 4.8], [0.845 * top, 0.845 * top], color=INK["fg"], lw=2.5)
        _entry(ax, m, 0.84 * top, "end of the memory", whole)

    return one_gpu


def _entry(ax, m, at, name, gib):
    """A line of the list beside the bar."""
    m.text(ax, 4.95, at, name, dy=-3, weight="bold")
    m.text(ax, 4.95, at, f"{gib:,.1f} GiB", dy=14)


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count:,} users" if count else "no users"
