"""What a training run costs: arithmetic, memory for its state, time. (Chapters 3 and 4.)"""

from __future__ import annotations

from .registry import formula
from .symbols import Symbol, amount, count, rate


@formula(
    meaning="arithmetic of a forward pass: every parameter multiplies and adds once per token",
    symbol="F",
    unit="FLOP",
    worked={"parameters": 8_030_261_248, "tokens": 1, "result": 16_060_522_496},
    symbols={"tokens": count("T", "tokens processed", "token")},
    valid="matrix products with the weights; attention over the context comes on top",
    source="kaplan-2020",
    where="Sec. 2.1",
    chapter="roofline",
)
def forward_flops(parameters, tokens):
    return 2 * parameters * tokens


@formula(
    meaning="arithmetic of training: forward, and twice that backward",
    symbol="F",
    unit="FLOP",
    worked={"parameters": 405e9, "tokens": 15.6e12, "result": 3.7908e25},
    symbols={"tokens": count(r"D", "tokens trained on", "token")},
    valid="no recomputation; for a mixture of experts take the active parameters",
    source="kaplan-2020",
    where="Sec. 2.1",
    chapter="roofline",
)
def training_flops(parameters, tokens):
    return 6 * parameters * tokens


@formula(
    meaning="time of a training run",
    symbol="t",
    unit="s",
    worked={
        "parameters": 70e9,
        "tokens": 2e12,
        "chips": 2000,
        "peak_flops_per_s": 312e12,
        "utilisation": 0.4347233348990385,
        "result": 3096576.000650528,
    },
    symbols={
        "tokens": count(r"D", "tokens trained on", "token"),
        "utilisation": Symbol(
            "u", "1", "MFU, the share of the peak that is useful", above=0, at_most=1
        ),
    },
    valid="no failures, no restarts; the utilisation holds for the whole run",
    source="narayanan-2021",
    where="Eq. 4, with 8 in place of 6 since it recomputes activations",
    chapter="parallelism",
)
def training_seconds(parameters, tokens, chips, peak_flops_per_s, utilisation):
    return 6 * parameters * tokens / (chips * peak_flops_per_s * utilisation)


@formula(
    meaning="tokens each accelerator processes per second, from a run's published bill",
    symbol="v",
    unit="token/s",
    worked={"tokens": 2e12, "chip_hours": 1_720_320, "result": 322.9373346229497},
    symbols={
        "tokens": count(r"D", "tokens processed", "token"),
        "chip_hours": rate("h", "h", "accelerator hours"),
    },
    valid="the hours are those of the run itself, not of failed ones",
    chapter="economics",
)
def tokens_per_chip_second(tokens, chip_hours):
    return tokens / (3600 * chip_hours)


_STATE = {
    "weight": amount(r"b_w", "B", "bytes of a weight"),
    "gradient": amount(r"b_g", "B", "bytes of its gradient"),
    "master": amount(r"b_{32}", "B", "bytes of the master copy of the weight"),
    "momentum": amount(r"b_m", "B", "bytes of Adam's first moment"),
    "variance": amount(r"b_v", "B", "bytes of Adam's second moment"),
}


@formula(
    meaning="bytes of training state per parameter",
    symbol="b",
    unit="B",
    worked={
        "weight": 2,
        "gradient": 2,
        "master": 4,
        "momentum": 4,
        "variance": 4,
        "result": 16,
    },
    symbols=_STATE,
    valid="Adam in mixed precision as 2+2+4+4+4; activations and buffers come on top",
    source="rajbhandari-2019",
    where="Sec. 3.1",
    chapter="precision",
)
def state_bytes_per_parameter(weight, gradient, master, momentum, variance):
    return weight + gradient + master + momentum + variance


@formula(
    meaning="memory of a model's training state",
    symbol="Q",
    unit="B",
    worked={"parameters": 7e9, "bytes_per_parameter": 16, "result": 112e9},
    symbols={"bytes_per_parameter": rate("b", "B", "bytes of training state per parameter")},
    valid="activations and buffers come on top",
    source="rajbhandari-2019",
    where="Sec. 3.1",
    chapter="precision",
)
def training_state_bytes(parameters, bytes_per_parameter):
    return parameters * bytes_per_parameter


_ADAPTER = {
    "rank": count("r", "rank of the adapter"),
    "inputs": count(r"d_\text{in}", "inputs of the adapted matrix"),
    "outputs": count(r"d_\text{out}", "outputs of the adapted matrix"),
}


@formula(
    meaning="parameters of a low-rank adapter of one matrix",
    symbol=r"P_\text{LoRA}",
    unit="1",
    worked={"rank": 16, "inputs": 4096, "outputs": 14336, "result": 294_912},
    symbols=_ADAPTER,
    valid="two matrices, inputs x rank and rank x outputs",
    source="hu-2021",
    where="Sec. 4.1",
    chapter="compression",
)
def lora_parameters(rank, inputs, outputs):
    return rank * (inputs + outputs)


@formula(
    meaning="memory to fine-tune with adapters: frozen weights and the adapters' training state",
    symbol="Q",
    unit="B",
    worked={
        "parameters": 7e9,
        "bytes_per_weight": 0.5158691406,
        "adapter_parameters": 40e6,
        "bytes_per_adapter_parameter": 16,
        "result": 4251083984.2,
    },
    symbols={
        "adapter_parameters": amount(r"P_\text{LoRA}", "1", "parameters of all adapters"),
        "bytes_per_adapter_parameter": rate("b", "B", "training state per adapter parameter"),
    },
    valid="LoRA with 2-byte weights, QLoRA with about 0.516; activations come on top",
    source="dettmers-2023",
    where="the method",
    chapter="compression",
)
def adapter_training_bytes(
    parameters, bytes_per_weight, adapter_parameters, bytes_per_adapter_parameter
):
    return parameters * bytes_per_weight + adapter_parameters * bytes_per_adapter_parameter
