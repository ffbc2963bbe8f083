"""Facts of the machine that this process runs on."""

import os
import platform
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")


def available_bytes(meminfo: Path = _MEMINFO) -> int | None:
    """The memory that new programs can have; None where the system does not say."""
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def usable_cores(topology: Path = _TOPOLOGY) -> list[int]:
    """The cores that this process may run on, each by the number of one of its processors: of those
    that share a core, the first.
    """
    processors = list(range(os.cpu_count() or 1))
    if sys.platform == "linux":
        processors = sorted(os.sched_getaffinity(0))
    first: dict[str, int] = {}
    for number in processors:
        siblings = topology / f"cpu{number}" / "topology" / "thread_siblings_list"
        core = siblings.read_text() if siblings.is_file() else str(number)
        first.setdefault(core, number)
    return list(first.values())


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's name as the system has it, and the number of its cores."""
    name = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        names = (value.strip() for key, _, value in lines if key.strip() == "model name")
        name = next(names, name)
    return f"{name}, {os.cpu_count()} cores"
