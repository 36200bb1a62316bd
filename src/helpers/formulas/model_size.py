"""How many parameters a layer has, and how many of them a step touches. (Chapters 1 and 5.)"""

from __future__ import annotations

from .registry import formula
from .symbols import amount, count


@formula(
    meaning="parameters of attention: query, key, value and output matrices",
    symbol=r"P_\text{attention}",
    unit="1",
    worked={
        "d_model": 4096,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "result": 41_943_040,
    },
    valid="multi-head and grouped-query attention without biases, one layer",
    source="ainslie-2023",
    where="Sec. 2.2",
)
def attention_parameters(d_model, heads, kv_heads, head_dim):
    return 2 * d_model * head_dim * (heads + kv_heads)


@formula(
    meaning="parameters of a gated feed-forward layer: gate, up and down matrices",
    symbol=r"P_\text{MLP}",
    unit="1",
    worked={"d_model": 4096, "ffn": 14336, "result": 176_160_768},
    valid="SwiGLU without biases, one layer; the older form without a gate has 2CM",
    source="shazeer-2020",
    where="the definition",
)
def swiglu_parameters(d_model, ffn):
    return 3 * d_model * ffn


@formula(
    meaning="parameters of the experts of a layer that one token uses",
    symbol=r"P_\text{active}",
    unit="1",
    worked={
        "d_model": 7168,
        "expert_ffn": 2048,
        "top_k": 8,
        "shared_experts": 1,
        "result": 396_361_728,
    },
    symbols={"expert_ffn": count(r"M_e", "width of one expert")},
    valid="gated experts; the router's matrix comes on top",
    source="deepseek-2024",
    where="Sec. 2.1.2",
)
def active_expert_parameters(d_model, expert_ffn, top_k, shared_experts):
    return 3 * d_model * expert_ffn * (top_k + shared_experts)


@formula(
    meaning="routed experts of a layer that a step touches, on average",
    symbol=r"E_\text{touched}",
    unit="1",
    worked={"experts": 8, "top_k": 2, "routed_tokens": 4, "result": 5.46875},
    symbols={"routed_tokens": amount("n", "token", "tokens of the step, all sequences together")},
    valid="k at most E; each token picks k different experts uniformly and independently; "
    "real routers are less even and touch fewer",
)
def touched_experts(experts, top_k, routed_tokens):
    return experts * (1 - (1 - top_k / experts) ** routed_tokens)
