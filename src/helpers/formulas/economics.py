"""From tokens per second to joules and money. (Chapter 8.)"""

from __future__ import annotations

from .registry import formula
from .symbols import rate

_SPEED = {"tokens_per_s": rate("v", "token/s", "tokens per second")}


@formula(
    meaning="energy of a token",
    symbol="E",
    unit="J",
    worked={"power_w": 700, "tokens_per_s": 2500, "result": 0.28},
    symbols=_SPEED,
    valid="power of the same machine that makes the tokens; cooling and losses come on top",
    chapter="economics",
)
def joules_per_token(power_w, tokens_per_s):
    return power_w / tokens_per_s


@formula(
    meaning="cost of a million tokens",
    symbol="c",
    unit="$",
    worked={"dollars_per_hour": 2, "tokens_per_s": 2500, "result": 2e6 / (3600 * 2500)},
    symbols=_SPEED | {"dollars_per_hour": rate("p", "$/h", "price of the machine")},
    valid="busy all the time; divide by the share of the hour that is sold",
    chapter="economics",
)
def dollars_per_million_tokens(dollars_per_hour, tokens_per_s):
    return 1e6 * dollars_per_hour / (3600 * tokens_per_s)
