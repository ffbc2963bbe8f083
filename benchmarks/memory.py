"""Memory that a process holds, as Linux counts it."""

from pathlib import Path

BESIDE_PAGE_CACHE = ("RssAnon", "RssShmem")
"""Fields for all memory but mapped files, whose pages the system may take back at any time."""
RESIDENT = ("VmRSS",)


def held_gb(pid: int | str, fields: tuple[str, ...] = BESIDE_PAGE_CACHE) -> float:
    """Sum of fields of `/proc/PID/status` in gigabytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    values = dict(line.split(":", 1) for line in lines)
    kibibytes = sum(int(values[field].split()[0]) for field in fields if field in values)
    return kibibytes * 1024 / 1e9
