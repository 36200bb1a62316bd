"""Where the time of one forward pass goes: a stopwatch around its parts.

Four parts are told apart. *Products* are the matrix products with weights. *Attention* is all that
a layer's ``attend`` does, with a cache its writing and reading too. *Other* operations of the
layers are norms, rotary embedding, activation, residuals and the views between them. *Around* is
what the caller does outside of the model: scheduling, making tensors, choosing the token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: the parts of a pass, in the order of the tables
PARTS = ("products", "attention", "other", "around")


@contextmanager
def watched(model: Any) -> Iterator[dict[str, float]]:
    """Add up the seconds of the parts of everything that ``model`` does inside the block.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        Plain or packed. It is as it was after the block.

    Yields
    ------
    dict of str to float
        Seconds of ``products`` and ``attention`` inside the layers, of the ``head`` behind them,
        and of the ``layers`` in all.
    """
    import torch

    from helpers.lm.model import causal_attention
    from helpers.serve.packing import PackedLinear

    now = time.perf_counter
    spent = dict.fromkeys(("products", "attention", "head", "layers"), 0.0)
    started: list[float] = []

    def begin(module: Any, inputs: Any) -> None:
        started.append(now())

    def end(module: Any, inputs: Any, output: Any) -> None:
        part = "head" if module is model.head else "products"
        spent[part] += now() - started.pop()

    hidden = model.hidden  # the bound method of the class

    def watched_hidden(tokens: Any, positions: Any = None, attend: Any = None) -> Any:
        inner = attend or causal_attention

        def watched_attend(*arguments: Any) -> Any:
            start = now()
            out = inner(*arguments)
            spent["attention"] += now() - start
            return out

        start = now()
        out = hidden(tokens, positions, watched_attend)
        spent["layers"] += now() - start
        return out

    hooks = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | PackedLinear):
            hooks.append(module.register_forward_pre_hook(begin))
            hooks.append(module.register_forward_hook(end))
    model.hidden = watched_hidden
    try:
        yield spent
    finally:
        del model.hidden
        for hook in hooks:
            hook.remove()


def split(model: Any, call: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each of :data:`PARTS` of one call; together they are the whole call.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        The model that the call runs.
    call : callable
        Runs the model once, such as ``engine.step``.

    Examples
    --------
    >>> import torch
    >>> from helpers.lm.config import ModelConfig
    >>> from helpers.lm.model import Transformer
    >>> model = Transformer(ModelConfig(layers=1, d_model=8, heads=2, kv_heads=1, head_dim=4,
    ...                                 ffn=16, vocab=11, context=32))
    >>> parts = split(model, lambda: model(torch.tensor([[3, 1, 4]])))
    >>> list(parts), all(seconds > 0 for seconds in parts.values())
    (['products', 'attention', 'other', 'around'], True)
    """
    with watched(model) as spent:
        start = time.perf_counter()
        call()
        whole = time.perf_counter() - start
    return {
        "products": spent["products"] + spent["head"],
        "attention": spent["attention"],
        "other": spent["layers"] - spent["products"] - spent["attention"],
        "around": whole - spent["layers"] - spent["head"],
    }
