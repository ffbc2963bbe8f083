"""Memory and processor time of a process and its descendants together, as Linux counts them."""

from pathlib import Path

import psutil


def resident_mb(pid: int) -> float:
    """Memory of all of them in megabytes, what they share counted once (PSS)."""
    return sum(_shared_out(each.pid) for each in _family(pid)) * 1024 / 1e6


def processor_seconds(pid: int) -> float:
    """Processor time that all of them have taken, in seconds."""
    times = [each.cpu_times() for each in _family(pid)]
    return sum(each.user + each.system for each in times)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _shared_out(pid: int) -> int:
    """Kibibytes of one process, of shared pages its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
