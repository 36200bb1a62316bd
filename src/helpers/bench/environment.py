"""What a timing was taken on: processor, memory, versions, threads. No host, user or path names."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

#: what a processor that names only its brand is, by (vendor, family, first and last model number)
_MICROARCHITECTURES = (
    ("AuthenticAMD", 23, 0x31, 0x3F, "Zen 2"),
    ("AuthenticAMD", 25, 0x00, 0x0F, "Zen 3"),
    ("AuthenticAMD", 25, 0x10, 0x1F, "Zen 4"),
    ("AuthenticAMD", 25, 0xA0, 0xAF, "Zen 4c"),
    ("AuthenticAMD", 26, 0x00, 0x1F, "Zen 5"),
    ("GenuineIntel", 6, 0x55, 0x55, "Skylake-SP or Cascade Lake"),
    ("GenuineIntel", 6, 0x6A, 0x6C, "Ice Lake-SP"),
    ("GenuineIntel", 6, 0x8F, 0x8F, "Sapphire Rapids"),
)


class Environment(BaseModel):
    """Hardware and versions behind a measurement.

    Attributes
    ----------
    processor : str
        Name as the processor tells it, with its microarchitecture where the name hides it.
    cores : int
        Cores that this process may use.
    memory_bytes : int
        Main memory (0 where the system does not tell).
    virtual_machine : bool
        Whether a hypervisor shows itself.
    system, python, numpy, torch : str
        Versions; torch is empty where it is not installed.
    cache_bytes : dict of str to int
        Sizes of the data caches that one core sees, ``{"L1": ..., "L2": ..., "L3": ...}``.
    gpu, gpu_driver : str
        Name of the first CUDA device and its CUDA version; empty without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: str
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    virtual_machine: bool = False
    system: str
    python: str
    numpy: str
    torch: str = ""
    cache_bytes: dict[str, int] = Field(default_factory=dict)
    gpu: str = ""
    gpu_driver: str = ""

    @property
    def label(self) -> str:
        """The machine in one phrase, as the book names it.

        Examples
        --------
        >>> Environment(processor="AMD EPYC (Zen 4)", cores=2, memory_bytes=24 * 2**30,
        ...             virtual_machine=True, system="Linux", python="3.11", numpy="2.4").label
        '2 cores of an AMD EPYC (Zen 4) virtual machine'
        """
        if self.gpu:
            return self.gpu
        article = "an" if self.processor[:1].lower() in "aeiou" else "a"
        kind = " virtual machine" if self.virtual_machine else ""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{cores} of {article} {self.processor}{kind}"

    def same_hardware(self, other: Environment) -> bool:
        """Whether another environment is the same machine (versions may differ).

        Parameters
        ----------
        other : Environment
            The one to compare with.
        """
        mine = (self.processor, self.cores, self.gpu)
        return mine == (other.processor, other.cores, other.gpu)


def _run(*command: str) -> str:
    """Output of a system command, or nothing if there is no such command."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _linux_processor() -> tuple[str, bool]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", False
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", "")
    name = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*$", "", name)
    name = re.sub(r"\s+", " ", name).strip()
    hypervisor = "hypervisor" in fields.get("flags", "")
    if not re.search(r"\d", name):  # a virtual machine often hides the model number
        try:
            family, model = int(fields["cpu family"]), int(fields["model"])
        except (KeyError, ValueError):
            return name, hypervisor
        for vendor, fam, first, last, micro in _MICROARCHITECTURES:
            if fields.get("vendor_id") == vendor and family == fam and first <= model <= last:
                return f"{name} ({micro})", hypervisor
    return name, hypervisor


def _linux_caches() -> dict[str, int]:
    sizes: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            text = (index / "size").read_text().strip()
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KM]?)", text)
        if kind in ("Data", "Unified") and match:
            unit = {"": 1, "K": 2**10, "M": 2**20}[match[2]]
            sizes[f"L{level}"] = int(match[1]) * unit
    return sizes


def _mac_caches() -> dict[str, int]:
    sizes = {}
    for name, keys in {
        "L1": ("hw.perflevel0.l1dcachesize", "hw.l1dcachesize"),
        "L2": ("hw.perflevel0.l2cachesize", "hw.l2cachesize"),
        "L3": ("hw.l3cachesize",),
    }.items():
        for key in keys:
            value = _run("sysctl", "-n", key)
            if value.isdigit() and int(value) > 0:
                sizes[name] = int(value)
                break
    return sizes


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


@cache
def current_environment() -> Environment:
    """Describe the machine this process runs on.

    Returns
    -------
    Environment
        Works without torch and on systems that tell little: what is unknown is empty or zero.
    """
    import numpy

    processor, virtual, caches = "", False, {}
    if sys.platform == "linux":
        processor, virtual = _linux_processor()
        caches = _linux_caches()
    elif sys.platform == "darwin":
        processor = _run("sysctl", "-n", "machdep.cpu.brand_string")
        caches = _mac_caches()
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    torch_version = gpu = driver = ""
    try:
        import torch

        torch_version = torch.__version__
        if torch.cuda.is_available():
            gpu = torch.cuda.get_device_name(0)
            driver = f"CUDA {torch.version.cuda}"
    except ImportError:
        pass
    return Environment(
        processor=processor or platform.processor() or platform.machine() or "unknown processor",
        cores=cores,
        memory_bytes=_memory_bytes(),
        virtual_machine=virtual,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        numpy=numpy.__version__,
        torch=torch_version,
        cache_bytes=caches,
        gpu=gpu,
        gpu_driver=driver,
    )
