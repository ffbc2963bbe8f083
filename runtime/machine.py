"""Facts of the machine that this process runs on."""

import os
import platform
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")


def available_bytes(meminfo: Path = _MEMINFO) -> int | None:
    """The memory that new programs can have; None where the system does not say."""
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    return cores


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's name as the system has it, and the number of its cores."""
    name = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        names = (value.strip() for key, _, value in lines if key.strip() == "model name")
        name = next(names, name)
    return f"{name}, {os.cpu_count()} cores"
