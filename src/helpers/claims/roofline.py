"""Checks of chapter 1: peaks, ridges, links and decode bounds as they are printed elsewhere.

Numbers written out in these functions are the claims' own givens. What can be looked up comes
from the catalog, what can be derived from the formulas.
"""

from __future__ import annotations

from helpers import catalog
from helpers.catalog.quantities import Quantity
from helpers.formulas import roofline

CHIPS_PER_BOARD = 8
CHIPS_PER_RACK = 72


# --- dense, sparse, which part ------------------------------------------------------------------


def h100_bf16_dense() -> Quantity:
    """The BF16 rate of an H100 for ordinary matrices: half of what the data sheet prints first."""
    printed_with_sparsity = 1_979e12
    return Quantity(printed_with_sparsity / 2, "FLOP/s")


def b200_fp8_dense() -> Quantity:
    """One B200's dense FP8: the board's sparse figure over eight chips, halved."""
    board_sparse = 72e15
    return Quantity(board_sparse / CHIPS_PER_BOARD / 2, "FLOP/s")


def b200_fp4_sparse() -> Quantity:
    """One B200's sparse FP4: the board's sparse figure over eight chips, not halved."""
    board_sparse = 144e15
    return Quantity(board_sparse / CHIPS_PER_BOARD, "FLOP/s")


def gb200_fp4_sparse() -> Quantity:
    """One GB200 GPU's sparse FP4: the rack's sparse figure over 72 GPUs, not halved."""
    rack_sparse = 1.44e18
    return Quantity(rack_sparse / CHIPS_PER_RACK, "FLOP/s")


def nvl72_memory_per_gpu() -> Quantity:
    """Memory that each of the 72 GPUs of the rack brings to its 13.4 TB."""
    return Quantity(13.4e12 / CHIPS_PER_RACK, "B")


def gb300_over_b200() -> Quantity:
    """Dense FP4 of GB300 over that of the B200 the claim is printed beside (4.5 PFLOP/s)."""
    printed_b200 = 4.5e15
    return Quantity(catalog.chip("gb300").peak("fp4") / printed_b200, "")


def b300_board_fp4_dense() -> Quantity:
    """One B300 on an eight-chip board: the board's dense FP4 figure over eight."""
    board_dense = 108e15
    return Quantity(board_dense / CHIPS_PER_BOARD, "FLOP/s")


def blackwell_over_hopper_like_for_like() -> Quantity:
    """B200 over H100 in the same format, FP8, both dense."""
    fp8 = "fp8"
    return Quantity(catalog.chip("b200-sxm").peak(fp8) / catalog.chip("h100-sxm").peak(fp8), "")


def rubin_fp4_dense() -> Quantity:
    """Rubin's dense FP4, as published beside the larger figure for inference."""
    return Quantity(float(catalog.chip("rubin").peak("fp4")), "FLOP/s")


def nvlink5_one_way() -> Quantity:
    """What one GPU can send over NVLink 5: the rack's total over 72 GPUs and two directions."""
    rack_total = 129.6e12
    return Quantity(rack_total / CHIPS_PER_RACK / 2, "B/s")


# --- bounds that are called something else ------------------------------------------------------


def b200_stream_bound() -> Quantity:
    """70 billion weights of one byte on one B200, one stream: bandwidth over bytes per token."""
    bandwidth = catalog.chip("b200-sxm").bandwidth
    return Quantity(roofline.decode_tokens_per_s(70e9, 1, bandwidth), "token/s")


def mi300x_70b_bound() -> Quantity:
    """Llama 3.1 70B in BF16 on one MI300X, one stream, as a bound."""
    parameters = catalog.model("llama-3.1-70b").parameters
    bandwidth = catalog.chip("mi300x").bandwidth
    return Quantity(roofline.decode_tokens_per_s(parameters, 2, bandwidth), "token/s")


def llama_over_mistral_bytes() -> Quantity:
    """Bytes per decoded token, Llama 3.1 8B over Mistral 7B v0.3, without the input embedding.

    A decode step looks up one row of the input embedding and streams everything else. The
    vocabulary of 128,256 makes that table large in one of the two models.
    """

    def streamed(name: str) -> float:
        model = catalog.model(name)
        return model.parameters - model.vocab * model.d_model

    ratio = streamed("llama-3.1-8b") / streamed("mistral-7b-v0.3")
    return Quantity(100 * (ratio - 1), "%")


def predictions_of_the_diary_that_hold() -> Quantity:
    """Of three predictions that one diary calls exact, how many are within ten percent.

    The ridge of its card, the size of the square product that reaches it, and the ratio of two
    models' speeds, each as printed against what the card, the formula or its own log gives.
    """
    card = catalog.chip("rtx-4090")
    peak, bandwidth = card.peak("fp16"), card.bandwidth
    pairs = [
        (327.0, roofline.ridge_point(peak, bandwidth)),
        (256.0, roofline.square_gemm_at_ridge(peak, bandwidth, 2)),
        (11.0, 100 * (96.5 / 93.1 - 1)),  # claimed: 11% fewer bytes explain the measured gap
    ]
    return Quantity(sum(abs(claimed / true - 1) <= 0.1 for claimed, true in pairs), "")


# --- one card, measured and misread -------------------------------------------------------------


def gemm_fp32_second_rate() -> Quantity:
    """FP32 rate of a 4096-cube matrix product from the second of two logged times, 2.55 ms."""
    return Quantity(roofline.gemm_flops(4096, 4096, 4096) / 2.55e-3, "FLOP/s")


def rtx_4090_memory() -> Quantity:
    """Memory of the card as its maker sells it."""
    return Quantity(float(catalog.chip("rtx-4090").capacity), "B")


def rtx_4090_fp16_share() -> Quantity:
    """A measured 158.1 TFLOP/s over the peak that applies: FP16 products summed in FP32."""
    measured = 158.1e12
    share = roofline.achieved_share(measured, catalog.chip("rtx-4090").peak("fp16"))
    return Quantity(100 * share, "%")


def rtx_4090_ridge() -> Quantity:
    """Ridge of an RTX 4090 in FP16 with FP32 sums."""
    card = catalog.chip("rtx-4090")
    return Quantity(roofline.ridge_point(card.peak("fp16"), card.bandwidth), "FLOP/B")


def rtx_4090_square_at_ridge() -> Quantity:
    """Size of the square FP16 product at that ridge: three times the ridge."""
    card = catalog.chip("rtx-4090")
    return Quantity(roofline.square_gemm_at_ridge(card.peak("fp16"), card.bandwidth, 2), "")


def naive_matmul_share() -> Quantity:
    """A naive FP32 product of 1024-cube in 0.43 ms, as a share of the card's FP32 peak."""
    rate = roofline.gemm_flops(1024, 1024, 1024) / 0.43e-3
    share = roofline.achieved_share(rate, catalog.chip("rtx-4090").peak("fp32"))
    return Quantity(100 * share, "%")
