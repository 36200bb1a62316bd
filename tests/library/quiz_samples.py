"""Questions for the tests: one of each type, no number from the catalog."""

from __future__ import annotations

import textwrap
from pathlib import Path

SAMPLE = textwrap.dedent(
    r"""
    chapter: roofline
    questions:
      - id: bound
        type: single
        group: first
        outcome: find-the-bound
        difficulty: 1
        text: One sequence, 8-bit weights. What bounds the **tokens per second**?
        options:
          - {text: Reading the weights, right: true, reason: Each weight is used for $2$ FLOP.}
          - {text: The tensor cores, reason: They wait.}
          - {text: The host link, reason: Only token ids cross it.}
        explanation: Count bytes and FLOP, divide, compare with the ridge.
      - id: true-ones
        type: several
        group: first
        outcome: find-the-bound
        difficulty: 2
        text: Which raise the bound on decoding?
        options:
          - {text: More bandwidth, right: true, reason: The bound is bandwidth over bytes.}
          - {text: A higher peak, reason: The peak is idle.}
          - {text: Fewer bits per weight, right: true, reason: Fewer bytes to read.}
          - {text: A faster host, reason: It is not on the path.}
        explanation: Only bytes and bandwidth stand in the bound.
      - id: ridge
        type: number
        group: first
        outcome: compute-the-ridge
        difficulty: 1
        values: {peak: 989.4 TFLOP/s, bandwidth: 3.35 TB/s, weights: 16 GB}
        text: "{{peak in TFLOP/s :.0f}} and {{bandwidth}}: where does the roofline bend?"
        answer:
          formula: roofline.ridge_point
          args: {peak_flops_per_s: peak, bandwidth_bytes_per_s: bandwidth}
        unit: FLOP/B
        tolerance: 2%
        check_value: 295.3
        hint: Both bounds meet there.
        common_errors:
          - {value: = 2 * peak / bandwidth, reason: That is the ridge of the sparse peak.}
          - {value: = bandwidth / peak, reason: Upside down.}
        explanation: The ridge is $P / \beta$.
      - id: reading-time
        type: number
        group: second
        outcome: compute-a-time
        difficulty: 1
        values: {bandwidth: 3.35 TB/s, weights: 16 GB}
        text: How long do {{weights in GB}} take?
        answer: = weights / bandwidth
        unit: ms
        tolerance: 3%
        explanation: Bytes over bandwidth.
      - id: levels
        type: order
        group: second
        outcome: name-the-levels
        difficulty: 2
        text: Order by bandwidth.
        first: fastest
        last: slowest
        items:
          - {text: registers, reason: They feed the arithmetic.}
          - {text: shared memory, reason: On the chip.}
          - {text: HBM, reason: On the package.}
          - {text: disk, reason: Behind PCIe.}
        explanation: Each level down is larger and slower.
      - id: slip
        type: find-the-error
        group: second
        outcome: convert-units
        difficulty: 2
        text: How long do 80 GB take at 3.35 TB/s? Which line is wrong?
        lines:
          - {text: "80 GB are $8 \\times 10^{10}$ B.", reason: Giga is $10^9$.}
          - text: "3.35 TB/s are $3.35 \\times 10^{9}$ B/s."
            wrong: true
            reason: "Tera is $10^{12}$."
          - {text: Time is bytes over bandwidth., reason: Both are in base units.}
        explanation: Write the powers out once.
      - id: first-guess
        type: predict
        outcome: find-the-bound
        difficulty: 2
        text: How many tokens per second at most?
        values: {bandwidth: 3.35 TB/s}
        answer: = bandwidth / 16e9
        unit: token/s
        explanation: Bandwidth over bytes per token.
      - id: second-guess
        type: predict
        outcome: find-the-bound
        difficulty: 1
        text: How long to read the memory once?
        answer: 24 ms
        unit: ms
        explanation: Capacity over bandwidth.
    """
)


def write(folder: Path, text: str = SAMPLE, name: str = "sample.yaml") -> Path:
    """Put a question file into ``folder`` and return the folder."""
    (folder / name).write_text(text, encoding="utf-8")
    return folder
