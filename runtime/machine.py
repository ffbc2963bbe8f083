"""Facts of the machine that this process runs on."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_CPUINFO = Path("/proc/cpuinfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")


def available_bytes(
    meminfo: Path = _MEMINFO, own_groups: Path = _OWN_GROUPS, groups: Path = _GROUPS
) -> int | None:
    """The memory that this process can still have: what Linux estimates for new programs, and no
    more than its control groups (a container's limit) leave. None where the system does not say.
    """
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    return min(available, *_left_by_groups(own_groups, groups), available)


def _left_by_groups(own_groups: Path, groups: Path) -> Iterator[int]:
    """The bytes that each control group with a limit leaves: this process's, and those above."""
    lines = own_groups.read_text().splitlines() if own_groups.is_file() else []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        limit, usage = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        # In a container the group's own folder may be the root of what is mounted.
        group = root / name.strip("/")
        for folder in [group, *group.parents]:
            if folder.is_relative_to(root):
                yield from _left_by_group(folder, limit, usage)


def _left_by_group(folder: Path, limit: str, usage: str) -> Iterator[int]:
    """The bytes that one group leaves; pages of files that were not read lately count as free."""
    with suppress(OSError, ValueError):  # No such folder, or a limit of "max".
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = stat.get("total_inactive_file", stat.get("inactive_file", "0"))
        yield max(0, most - used + int(cached))


def resident_bytes(*, peak: bool = False, status: Path = _STATUS) -> int | None:
    """The memory that this process has in use, or with `peak` the most that it had since
    `restart_peak`; None where the system does not say.
    """
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) * 1024


def restart_peak(clear_refs: Path = _CLEAR_REFS) -> bool:
    """Have the peak begin anew with what is in use now; False where the system does not let us."""
    with suppress(OSError):
        clear_refs.write_text("5")
        return True
    return False


def usable_cores(topology: Path = _TOPOLOGY) -> list[int]:
    """The cores that this process may run on, each by the number of one of its processors: of those
    that share a core, the first.
    """
    return [processors[0] for processors in _cores(topology)]


def keep_to_share(number: int, of: int, topology: Path = _TOPOLOGY) -> None:
    """Keep this process, and the threads that it starts from now on, to its share of the cores that
    it may run on: part `number`, from 0, of `of`. Where there are fewer cores than parts, parts
    have a core in common. No other system than Linux can be told so.
    """
    if sys.platform != "linux":
        return
    cores = _cores(topology)
    mine = cores[len(cores) * number // of : len(cores) * (number + 1) // of]
    chosen = mine or [cores[number % len(cores)]]
    os.sched_setaffinity(0, [processor for core in chosen for processor in core])


def _cores(topology: Path) -> list[list[int]]:
    """The processors of each core that this process may run on."""
    processors = list(range(os.cpu_count() or 1))
    if sys.platform == "linux":
        processors = sorted(os.sched_getaffinity(0))
    cores: dict[str, list[int]] = {}
    for number in processors:
        siblings = topology / f"cpu{number}" / "topology" / "thread_siblings_list"
        core = siblings.read_text() if siblings.is_file() else str(number)
        cores.setdefault(core, []).append(number)
    return list(cores.values())


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's name as the system has it, and the number of its cores."""
    name = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        names = (value.strip() for key, _, value in lines if key.strip() == "model name")
        name = next(names, name)
    return f"{name}, {os.cpu_count()} cores"


def give_free_memory_back() -> None:
    """Give the system what the C library keeps of freed memory, where it is glibc.

    Large blocks that are freed and taken again come from the heap before long (mallopt(3),
    "dynamic mmap threshold"), and stay there behind small ones that live.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
