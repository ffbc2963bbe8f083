"""Memory and processor time of processes, as Linux counts them."""

from pathlib import Path

import psutil

BESIDE_PAGE_CACHE = ("RssAnon", "RssShmem")
"""Fields for all memory but mapped files, whose pages the system may take back at any time."""
RESIDENT = ("VmRSS",)


def held_gb(pid: int | str, fields: tuple[str, ...] = BESIDE_PAGE_CACHE) -> float:
    """Sum of fields of `/proc/PID/status` in gigabytes; 0 for a process that has ended."""
    return _kibibytes(Path(f"/proc/{pid}/status"), fields) * 1024 / 1e9


def resident_mb(pid: int) -> float:
    """Memory of a process and its descendants in megabytes, what they share counted once (PSS)."""
    rollups = [Path(f"/proc/{each.pid}/smaps_rollup") for each in _family(pid)]
    return sum(_kibibytes(each, ("Pss",)) for each in rollups) * 1024 / 1e6


def processor_seconds(pid: int) -> float:
    """Processor time that a process and its descendants have taken, in seconds."""
    times = [each.cpu_times() for each in _family(pid)]
    return sum(each.user + each.system for each in times)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _kibibytes(path: Path, fields: tuple[str, ...]) -> int:
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(values[field].split()[0]) for field in fields if field in values)
