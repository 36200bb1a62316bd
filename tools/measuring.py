"""Notebooks that measure: they run alone, after the others, with all threads.

Plain Python without imports, since `run.py` reads it before anything is installed.
"""

MEASURING = (
    "notebooks/kv-cache/without.ipynb",
    "notebooks/roofline/measure.ipynb",
)
