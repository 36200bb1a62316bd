"""What it costs to agree: bytes and time of collectives. (Chapter 3.)"""

from __future__ import annotations

from .registry import formula
from .symbols import amount, count

_RANKS = {
    "ranks": count("n", "processes that take part"),
    "size_bytes": amount("M", "B", "bytes of the buffer on each process"),
}


@formula(
    meaning="time of one message",
    symbol="t",
    unit="s",
    worked={
        "latency_s": 5e-6,
        "link_bytes": 1e6,
        "link_bytes_per_s": 25e9,
        "result": 45e-6,
    },
    valid="an idle link and a fixed latency",
    source="hockney-1994",
    where="the model of the paper, pp. 389-398",
    chapter="parallelism",
)
def message_seconds(latency_s, link_bytes, link_bytes_per_s):
    return latency_s + link_bytes / link_bytes_per_s


@formula(
    meaning="bytes each process sends in a ring all-reduce",
    symbol=r"Q_\text{link}",
    unit="B",
    worked={"ranks": 8, "size_bytes": 16e9, "result": 28e9},
    symbols=_RANKS,
    valid="reduce-scatter, then all-gather; the least any all-reduce without switch help can send",
    source="patarasuk-2009",
    where="the lower bound and the ring, pp. 117-124",
    chapter="parallelism",
)
def all_reduce_bytes(ranks, size_bytes):
    return 2 * (ranks - 1) / ranks * size_bytes


@formula(
    meaning="algorithm bandwidth of a collective: buffer size over time",
    symbol=r"\beta_\text{alg}",
    unit="B/s",
    worked={"size_bytes": 2**31, "seconds": 14.152e-3, "result": 151744180892.59467},
    symbols={"size_bytes": _RANKS["size_bytes"]},
    valid="depends on the number of processes, so it cannot be compared with a link",
    source="nccl-tests",
    where="doc/PERFORMANCE.md, 'Algorithm bandwidth'",
    chapter="parallelism",
)
def algorithm_bandwidth(size_bytes, seconds):
    return size_bytes / seconds


@formula(
    meaning="bus bandwidth of an all-reduce: what each link carried, in one direction",
    symbol=r"\beta_\text{bus}",
    unit="B/s",
    worked={"ranks": 4, "size_bytes": 2**31, "seconds": 14.152e-3, "result": 227616271338.892},
    symbols=_RANKS,
    valid="comparable with a link's one-way bandwidth; the factor is 2(n-1)/n for all-reduce only",
    source="nccl-tests",
    where="doc/PERFORMANCE.md, 'Bus bandwidth'",
    chapter="parallelism",
)
def all_reduce_bus_bandwidth(ranks, size_bytes, seconds):
    return 2 * (ranks - 1) / ranks * (size_bytes / seconds)
