"""Measure, keep what was measured, and put it beside what was predicted.

>>> from helpers import bench
>>> card = bench.recorded.load("reference-cpu-card")
>>> card.label
'2 cores of an AMD EPYC (Zen 4) virtual machine'
"""

from . import environment, machine, operations, probe, recorded, storage, timing
from .machine import MachineCard
from .recorded import recorded_or_live
from .timing import Measurement, time_call

__all__ = [
    "MachineCard",
    "Measurement",
    "environment",
    "machine",
    "operations",
    "probe",
    "recorded",
    "recorded_or_live",
    "storage",
    "time_call",
    "timing",
]
