"""Chapter 1: how fast can this possibly go?

Every formula counts three things, the arithmetic an operation does, the bytes it moves and the
rates of the machine, and turns them into a time or a share of a peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ops import maximum, minimum
from .registry import formula
from .symbols import amount, count, rate, share

# --- the roofline itself -----------------------------------------------------------------------


@formula(
    meaning="arithmetic done for each byte moved",
    symbol="I",
    unit="FLOP/B",
    worked={"flops": 2 * 4096**3, "bytes_moved": 3 * 4096**2 * 2, "result": 4096 / 3},
    symbols={"bytes_moved": rate("Q", "B", "bytes moved to and from memory")},
    valid="bytes counted at one memory level, named with the number",
    source="williams-2009",
    where="section 'The Roofline Model', as operational intensity",
)
def arithmetic_intensity(flops, bytes_moved):
    return flops / bytes_moved


@formula(
    meaning="arithmetic intensity at which memory and arithmetic take equally long",
    symbol="I^*",
    unit="FLOP/B",
    worked={"peak_flops_per_s": 312e12, "bandwidth_bytes_per_s": 2.0e12, "result": 156.0},
    valid="dense peak of the data type in use, bandwidth of the level the bytes are counted at",
    source="williams-2009",
    where="section 'The Roofline Model' (ridge point)",
)
def ridge_point(peak_flops_per_s, bandwidth_bytes_per_s):
    return peak_flops_per_s / bandwidth_bytes_per_s


@formula(
    meaning="highest arithmetic rate at an intensity",
    symbol=r"P_\text{max}",
    unit="FLOP/s",
    worked={
        "intensity": 32.0,
        "peak_flops_per_s": 989.4e12,
        "bandwidth_bytes_per_s": 3.35e12,
        "result": 107.2e12,
    },
    valid="arithmetic and transfers overlap perfectly; an upper bound, never a forecast",
    source="williams-2009",
    where="section 'The Roofline Model'",
)
def attainable_flops_per_s(intensity, peak_flops_per_s, bandwidth_bytes_per_s):
    return minimum(peak_flops_per_s, intensity * bandwidth_bytes_per_s)


@formula(
    meaning="time of the arithmetic alone",
    symbol=r"t_\text{compute}",
    unit="s",
    worked={"flops": 2 * 8192**3, "peak_flops_per_s": 312e12, "result": 0.0035240757300512822},
    valid="every unit busy in every cycle",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def compute_seconds(flops, peak_flops_per_s):
    return flops / peak_flops_per_s


@formula(
    meaning="time of the memory transfers alone",
    symbol=r"t_\text{memory}",
    unit="s",
    worked={"bytes_moved": 140e9, "bandwidth_bytes_per_s": 8e12, "result": 0.0175},
    valid="every byte moved once at full bandwidth",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def memory_seconds(bytes_moved, bandwidth_bytes_per_s):
    return bytes_moved / bandwidth_bytes_per_s


@formula(
    meaning="shortest possible time: arithmetic and transfers overlap perfectly",
    symbol=r"t_\text{min}",
    unit="s",
    worked={
        "flops": 2 * 70e9,
        "bytes_moved": 140e9,
        "peak_flops_per_s": 312e12,
        "bandwidth_bytes_per_s": 2.0e12,
        "result": 0.07,
    },
    valid="a lower bound; no overheads, no latency, one memory level",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def time_lower_bound(flops, bytes_moved, peak_flops_per_s, bandwidth_bytes_per_s):
    return maximum(flops / peak_flops_per_s, bytes_moved / bandwidth_bytes_per_s)


@formula(
    meaning="time when arithmetic and transfers do not overlap at all",
    symbol=r"t_\text{sum}",
    unit="s",
    worked={
        "flops": 2 * 70e9,
        "bytes_moved": 140e9,
        "peak_flops_per_s": 312e12,
        "bandwidth_bytes_per_s": 2.0e12,
        "result": 0.07044871794871795,
    },
    valid="an upper bound for code that reaches peak and bandwidth; at most twice the lower bound",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def time_upper_bound(flops, bytes_moved, peak_flops_per_s, bandwidth_bytes_per_s):
    return flops / peak_flops_per_s + bytes_moved / bandwidth_bytes_per_s


# --- operations --------------------------------------------------------------------------------

_GEMM = {"n": count("n", "columns of the right matrix and of the product")}


@formula(
    meaning="arithmetic of a matrix product, (m × k) times (k × n)",
    symbol="F",
    unit="FLOP",
    worked={"m": 512, "k": 4096, "n": 14336, "result": 60_129_542_144},
    symbols=_GEMM,
    valid="a multiply and an add count as two",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def gemm_flops(m, k, n):
    return 2 * m * k * n


@formula(
    meaning="least bytes of a matrix product: both inputs read once, the result written once",
    symbol="Q",
    unit="B",
    worked={
        "m": 512,
        "k": 4096,
        "n": 14336,
        "bytes_per_element": 2,
        "result": 136_314_880,
    },
    symbols=_GEMM,
    valid="perfect reuse inside the chip; C is not read first",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def gemm_bytes(m, k, n, bytes_per_element):
    return bytes_per_element * (m * k + k * n + m * n)


@formula(
    meaning="arithmetic intensity of a matrix product",
    symbol="I",
    unit="FLOP/B",
    worked={
        "m": 512,
        "k": 4096,
        "n": 14336,
        "bytes_per_element": 2,
        "result": 441.10769230769233,
    },
    symbols=_GEMM,
    valid="perfect reuse; close to 2m/w while m is far below k and n",
    source="austin-2025",
    where="chapter 'All About Rooflines'",
)
def gemm_intensity(m, k, n, bytes_per_element):
    return 2 * m * k * n / (bytes_per_element * (m * k + k * n + m * n))


@formula(
    meaning="arithmetic intensity of a square matrix product: N/3 with two-byte elements",
    symbol="I",
    unit="FLOP/B",
    worked={"n": 8192, "bytes_per_element": 2, "result": 2730.6666666666665},
    valid="perfect reuse: each matrix crosses the memory bus once",
    source="williams-2009",
    where="section 'The Roofline Model': the definition; the count is ours",
)
def square_gemm_intensity(n, bytes_per_element):
    return 2 * n / (3 * bytes_per_element)


@formula(
    meaning="size of the square matrix product that sits on the ridge",
    symbol="N^*",
    unit="1",
    worked={
        "peak_flops_per_s": 165.2e12,
        "bandwidth_bytes_per_s": 1008e9,
        "bytes_per_element": 2,
        "result": 491.6666666666667,
    },
    valid="perfect reuse",
)
def square_gemm_at_ridge(peak_flops_per_s, bandwidth_bytes_per_s, bytes_per_element):
    return 3 * bytes_per_element / 2 * (peak_flops_per_s / bandwidth_bytes_per_s)


@formula(
    meaning="arithmetic intensity of a matrix times one vector",
    symbol="I",
    unit="FLOP/B",
    worked={"rows": 4096, "columns": 4096, "bytes_per_element": 2, "result": 0.9995119570522206},
    valid="just under 2/w whatever the size: each weight is used once",
    source="williams-2009",
    where="section 'The Roofline Model': the definition; the count is ours",
)
def gemv_intensity(rows, columns, bytes_per_element):
    return 2 * rows * columns / (bytes_per_element * (rows * columns + rows + columns))


@formula(
    meaning="arithmetic intensity of an elementwise operation",
    symbol="I",
    unit="FLOP/B",
    worked={
        "flops_per_element": 1,
        "reads": 2,
        "writes": 1,
        "bytes_per_element": 4,
        "result": 1 / 12,
    },
    symbols={
        "flops_per_element": amount("f", "FLOP", "arithmetic per element"),
        "reads": amount(r"n_\text{read}", "1", "arrays read"),
        "writes": count(r"n_\text{write}", "arrays written"),
    },
    valid="arrays too large for the caches",
    source="williams-2009",
    where="section 'The Roofline Model': the definition; the count is ours",
)
def elementwise_intensity(flops_per_element, reads, writes, bytes_per_element):
    return flops_per_element / ((reads + writes) * bytes_per_element)


@formula(
    meaning="arithmetic intensity of summing an array",
    symbol="I",
    unit="FLOP/B",
    worked={"elements": 1024, "bytes_per_element": 4, "result": 0.249755859375},
    valid="one read per element, the result stays in a register; tends to 1/w",
)
def reduction_intensity(elements, bytes_per_element):
    return (elements - 1) / (elements * bytes_per_element)


@formula(
    meaning="arithmetic of softmax over the rows of a matrix",
    symbol="F",
    unit="FLOP",
    worked={"rows": 4096, "columns": 1024, "result": 20_971_520},
    valid="per element: one compare, subtract, exponential, add, divide, each counted as one",
    source="milakov-2018",
    where="the definition; the count is ours",
)
def softmax_flops(rows, columns):
    return 5 * rows * columns


@formula(
    meaning="bytes of softmax over the rows of a matrix",
    symbol="Q",
    unit="B",
    worked={
        "rows": 4096,
        "columns": 1024,
        "bytes_per_element": 2,
        "accesses": 2,
        "result": 16_777_216,
    },
    symbols={"accesses": count("a", "memory accesses per element")},
    valid="4 accesses for three separate passes, 3 for the online form, 2 when a row stays on chip",
    source="milakov-2018",
    where="the accesses of each form of the algorithm",
)
def softmax_bytes(rows, columns, bytes_per_element, accesses):
    return accesses * rows * columns * bytes_per_element


@formula(
    meaning="query-key pairs of causal attention over new tokens behind a cache",
    symbol="A",
    unit="1",
    worked={"tokens": 4, "past": 10, "result": 50.0},
    valid="token i of the new ones sees the past, its predecessors and itself",
)
def causal_pairs(tokens, past):
    return tokens * past + tokens * (tokens + 1) / 2


@formula(
    meaning="arithmetic of attention: scores and weighted sum",
    symbol="F",
    unit="FLOP",
    worked={
        "batch": 1,
        "heads": 32,
        "pairs": 2048 * 2049 / 2,
        "head_dim": 128,
        "result": 34376515584.0,
    },
    valid="two matrix products per head; softmax not counted; grouped heads do not reduce it",
    source="dao-2022",
    where="Sec. 2.2",
)
def attention_flops(batch, heads, pairs, head_dim):
    return 4 * batch * heads * pairs * head_dim


@formula(
    meaning="least bytes of attention: read Q, K and V, write the output",
    symbol="Q",
    unit="B",
    worked={
        "batch": 1,
        "heads": 32,
        "kv_heads": 8,
        "tokens": 1,
        "keys": 8192,
        "head_dim": 128,
        "bytes_per_element": 2,
        "result": 33_570_816,
    },
    valid="fused: the scores never leave the chip, and one pass over the keys and values suffices",
    source="dao-2022",
    where="the method",
)
def attention_bytes(batch, heads, kv_heads, tokens, keys, head_dim, bytes_per_element):
    return 2 * batch * head_dim * bytes_per_element * (heads * tokens + kv_heads * keys)


@formula(
    meaning="arithmetic intensity of decode attention",
    symbol="I",
    unit="FLOP/B",
    worked={"heads": 64, "kv_heads": 8, "bytes_per_element": 2, "result": 8.0},
    valid="one query against a long cache; neither batch nor context can raise it",
    source="shazeer-2019",
    where="the method",
)
def decode_attention_intensity(heads, kv_heads, bytes_per_element):
    return 2 * heads / (kv_heads * bytes_per_element)


# --- decoding ----------------------------------------------------------------------------------


@formula(
    meaning="arithmetic intensity of multiplying a batch of vectors by weights",
    symbol="I",
    unit="FLOP/B",
    worked={"batch": 64, "bytes_per_weight": 2, "result": 64.0},
    valid="weights outweigh the activations: batch far below both sides of the matrix",
    source="pope-2022",
    where="the method",
)
def weight_intensity(batch, bytes_per_weight):
    return 2 * batch / bytes_per_weight


@formula(
    meaning="batch at which a weight matrix reaches the ridge",
    symbol="B^*",
    unit="1",
    worked={
        "peak_flops_per_s": 989.4e12,
        "bandwidth_bytes_per_s": 3.35e12,
        "bytes_per_weight": 2,
        "result": 295.34328358208955,
    },
    valid="weights only; attention over the cache never gets there",
    source="austin-2025",
    where="chapter 'All About Transformer Inference'",
)
def batch_at_ridge(peak_flops_per_s, bandwidth_bytes_per_s, bytes_per_weight):
    return bytes_per_weight / 2 * (peak_flops_per_s / bandwidth_bytes_per_s)


@formula(
    meaning="most tokens per second one sequence can decode",
    symbol=r"v_\text{max}",
    unit="token/s",
    worked={
        "parameters": 70e9,
        "bytes_per_weight": 1,
        "bandwidth_bytes_per_s": 8e12,
        "result": 114.28571428571429,
    },
    valid="batch 1, every weight read once per token, KV cache ignored",
    source="pope-2022",
    where="the method",
)
def decode_tokens_per_s(parameters, bytes_per_weight, bandwidth_bytes_per_s):
    return bandwidth_bytes_per_s / (parameters * bytes_per_weight)


@formula(
    meaning="most tokens per second a batch can decode, the KV cache counted",
    symbol=r"v_\text{max}",
    unit="token/s",
    worked={
        "batch": 32,
        "weight_bytes": 16_060_522_496,
        "kv_bytes_per_sequence": 1_073_741_824,
        "bandwidth_bytes_per_s": 3.35e12,
        "result": 2126.1294202573367,
    },
    valid="memory-bound: batch below the ridge",
    source="pope-2022",
    where="the method",
)
def batched_decode_tokens_per_s(batch, weight_bytes, kv_bytes_per_sequence, bandwidth_bytes_per_s):
    return batch * bandwidth_bytes_per_s / (weight_bytes + batch * kv_bytes_per_sequence)


@formula(
    meaning="shortest time to process a prompt",
    symbol=r"t_\text{prefill}",
    unit="s",
    worked={
        "parameters": 70e9,
        "tokens": 2048,
        "peak_flops_per_s": 989.4e12,
        "result": 0.28979179300586215,
    },
    valid="compute-bound: prompt far above the ridge; attention over long prompts comes on top",
    source="kaplan-2020",
    where="Sec. 2.1",
)
def prefill_seconds(parameters, tokens, peak_flops_per_s):
    return 2 * parameters * tokens / peak_flops_per_s


# --- more roofs --------------------------------------------------------------------------------

_LEVEL_1 = {
    "intensity_1": amount("I_1", "FLOP/B", "intensity counted at the near level"),
    "bandwidth_1_bytes_per_s": rate(r"\beta_1", "B/s", "bandwidth of the near level"),
    "intensity_2": amount("I_2", "FLOP/B", "intensity counted at the far level"),
    "bandwidth_2_bytes_per_s": rate(r"\beta_2", "B/s", "bandwidth of the far level"),
}


@formula(
    meaning="highest arithmetic rate under two memory levels, such as cache and HBM",
    symbol=r"P_\text{max}",
    unit="FLOP/s",
    worked={
        "peak_flops_per_s": 82.6e12,
        "intensity_1": 8.0,
        "bandwidth_1_bytes_per_s": 5e12,
        "intensity_2": 64.0,
        "bandwidth_2_bytes_per_s": 1008e9,
        "result": 40e12,
    },
    symbols=_LEVEL_1,
    valid="each level has its own byte count, hence its own intensity, and all levels overlap",
    source="yang-2020",
    where="the hierarchical roofline; ilic-2014 counts all bytes at the core",
)
def attainable_two_levels(
    peak_flops_per_s,
    intensity_1,
    bandwidth_1_bytes_per_s,
    intensity_2,
    bandwidth_2_bytes_per_s,
):
    return minimum(
        peak_flops_per_s,
        intensity_1 * bandwidth_1_bytes_per_s,
        intensity_2 * bandwidth_2_bytes_per_s,
    )


def attainable_at_levels(peak_flops_per_s: Any, levels: Sequence[tuple[Any, Any]]) -> Any:
    """Return the highest arithmetic rate under any number of levels.

    Parameters
    ----------
    peak_flops_per_s : number, array or expression
        The flat roof.
    levels : sequence of (intensity, bandwidth)
        For each level the intensity counted there (FLOP/B) and its bandwidth (B/s). A network is
        one more level: bytes sent over the link, bandwidth of the link in one direction.

    Returns
    -------
    number, array or expression
        FLOP/s: the lowest of the roofs.

    Raises
    ------
    ValueError
        If there is no level.

    Examples
    --------
    >>> attainable_at_levels(989e12, [(64, 12e12), (100, 3.35e12), (2000, 450e9)])
    335000000000000.0
    """
    if not levels:
        raise ValueError("levels: is empty; allowed is at least one (intensity, bandwidth)")
    return minimum(peak_flops_per_s, *(intensity * rate for intensity, rate in levels))


@formula(
    meaning="shortest possible time when bytes also cross a link between chips",
    symbol=r"t_\text{min}",
    unit="s",
    worked={
        "flops": 1e12,
        "bytes_moved": 1e9,
        "link_bytes": 1e9,
        "peak_flops_per_s": 989.4e12,
        "bandwidth_bytes_per_s": 3.35e12,
        "link_bytes_per_s": 450e9,
        "result": 0.0022222222222222222,
    },
    valid="arithmetic, memory and link all overlap; link bandwidth in one direction",
    source="austin-2025",
    where="chapter 'All About Rooflines' (network communication rooflines)",
)
def time_lower_bound_with_link(
    flops, bytes_moved, link_bytes, peak_flops_per_s, bandwidth_bytes_per_s, link_bytes_per_s
):
    return maximum(
        flops / peak_flops_per_s,
        bytes_moved / bandwidth_bytes_per_s,
        link_bytes / link_bytes_per_s,
    )


@formula(
    meaning="arithmetic needed per byte sent for a link not to be the bottleneck",
    symbol=r"I^*_\text{link}",
    unit="FLOP/B",
    worked={
        "peak_flops_per_s": 989.4e12,
        "link_bytes_per_s": 450e9,
        "result": 2198.6666666666665,
    },
    valid="link bandwidth in one direction",
    source="austin-2025",
    where="chapter 'All About Rooflines' (network communication rooflines)",
)
def link_ridge_point(peak_flops_per_s, link_bytes_per_s):
    return peak_flops_per_s / link_bytes_per_s


@formula(
    meaning="time with the cost of starting each kernel",
    symbol=r"t_\text{total}",
    unit="s",
    worked={"seconds": 0.0048, "launches": 300, "overhead_s": 4e-6, "result": 0.006},
    symbols={"seconds": rate("t", "s", "time on the device")},
    valid="launches are not hidden behind running kernels (no graph capture, short kernels)",
    source="amdahl-1967",
    where="pp. 483-485, as an overhead that does not shrink",
)
def time_with_launches(seconds, launches, overhead_s):
    return seconds + launches * overhead_s


@formula(
    meaning="speed-up of the whole when a part becomes faster",
    symbol="S",
    unit="1",
    worked={"part": 0.8, "speedup": 4.0, "result": 2.5},
    symbols={
        "part": share("p", "share of the time that is made faster"),
        "speedup": rate("s", "1", "how much faster that part becomes"),
    },
    valid="the rest keeps its time",
    source="amdahl-1967",
    where="pp. 483-485",
)
def amdahl_speedup(part, speedup):
    return 1 / ((1 - part) + part / speedup)


# --- where a specification comes from, and what was reached ------------------------------------


@formula(
    meaning="peak arithmetic rate from the units on the chip and their clock",
    symbol=r"\pi",
    unit="FLOP/s",
    worked={
        "units": 108,
        "flops_per_cycle": 2048,
        "clock_hz": 1.41e9,
        "result": 311.86944e12,
    },
    symbols={
        "units": count("n", "cores, SMs or multiply-add cells"),
        "flops_per_cycle": count("c", "arithmetic of one unit per cycle", "FLOP"),
    },
    valid="the clock of the specification; under load a chip may hold a lower one",
    source="nvidia-a100-2020",
    where="the A100's figures: 108 SMs, 1,024 multiply-adds a cycle, 1,410 MHz",
)
def peak_from_clock(units, flops_per_cycle, clock_hz):
    return units * flops_per_cycle * clock_hz


@formula(
    meaning="peak memory bandwidth from the width of the bus and its data rate",
    symbol=r"\beta",
    unit="B/s",
    worked={"bus_bits": 384, "transfers_per_s": 21e9, "result": 1008e9},
    symbols={
        "bus_bits": count("b", "bits moved at once"),
        "transfers_per_s": rate("r", "1/s", "transfers per second on each wire"),
    },
    valid="no refresh, no turnaround; 80 to 95% is reachable",
    source="nvidia-ada-2022",
    where="Appendix A (RTX 4090: 384 bits, 21 Gbit/s)",
)
def bandwidth_from_pins(bus_bits, transfers_per_s):
    return bus_bits / 8 * transfers_per_s


@formula(
    meaning="share of a bound that was reached",
    symbol=r"\eta",
    unit="1",
    worked={"measured": 947.5e9, "bound": 1008e9, "result": 0.939980158730159},
    symbols={
        "measured": amount("x", "same as the bound", "what was measured"),
        "bound": rate(r"x_\text{max}", "any rate", "what was possible"),
    },
    valid="both of the same kind: dense with dense, one direction with one direction",
)
def achieved_share(measured, bound):
    return measured / bound


@formula(
    meaning="bandwidth an operation reached, from the bytes it had to move",
    symbol=r"\beta_\text{eff}",
    unit="B/s",
    worked={"bytes_moved": 16_777_216, "seconds": 20.4e-6, "result": 822412549019.6079},
    valid="above the memory's peak only if a cache served some of the bytes",
)
def effective_bandwidth(bytes_moved, seconds):
    return bytes_moved / seconds


@formula(
    meaning="model FLOP utilisation: useful arithmetic as a share of the peak",
    symbol=r"\text{MFU}",
    unit="1",
    worked={
        "flops_per_token": 6 * 70e9,
        "tokens_per_s": 645_874.669,
        "chips": 2000,
        "peak_flops_per_s": 312e12,
        "result": 0.4347233348990385,
    },
    symbols={"flops_per_token": rate(r"F_\text{token}", "FLOP", "model arithmetic per token")},
    valid="recomputed activations do not count; dense peak of the data type in use",
    source="chowdhery-2022",
    where="Sec. 4.1 and Appendix B",
)
def mfu(flops_per_token, tokens_per_s, chips, peak_flops_per_s):
    return flops_per_token * tokens_per_s / (chips * peak_flops_per_s)


@formula(
    meaning="model bandwidth utilisation: needed bytes as a share of the bandwidth",
    symbol=r"\text{MBU}",
    unit="1",
    worked={
        "bytes_per_step": 14_496_047_104,
        "steps_per_s": 96.5,
        "bandwidth_bytes_per_s": 2.039e12,
        "result": 0.6860561773104463,
    },
    symbols={
        "bytes_per_step": rate(r"Q_\text{step}", "B", "weights and KV cache read in a step"),
        "steps_per_s": amount("v", "1/s", "decode steps per second"),
    },
    valid="batch size does not enter except through the KV cache",
    source="agarwal-2023",
    where="the definition",
)
def mbu(bytes_per_step, steps_per_s, bandwidth_bytes_per_s):
    return bytes_per_step * steps_per_s / bandwidth_bytes_per_s


__all__ = [name for name, value in globals().items() if hasattr(value, "formula")] + [
    "attainable_at_levels"
]
