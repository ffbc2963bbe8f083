"""Facts of the machine."""

import os
import subprocess
import sys
from pathlib import Path

from runtime.machine import (
    available_bytes,
    processor,
    resident_bytes,
    restart_peak,
    usable_cores,
)


def test_available_memory_is_read_where_the_system_tells(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    assert available_bytes(file) is None
    file.write_text("MemTotal:       65536 kB\nMemAvailable:   32768 kB\n")
    assert available_bytes(file) == 32 * 2**20


def test_this_machine_has_memory_available() -> None:
    assert (available_bytes() or 0) > 2**20


def test_the_processor_is_named_with_its_cores(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: A Processor 9000\n")
    assert processor(file).startswith("A Processor 9000, ")
    assert processor(tmp_path / "absent").endswith(" cores")


def test_the_cores_are_those_that_this_process_may_run_on() -> None:
    command = "from runtime.machine import usable_cores; print(usable_cores())"
    last = max(os.sched_getaffinity(0))
    bound = ["taskset", "-c", str(last), sys.executable, "-c", command]
    assert subprocess.run(bound, capture_output=True, text=True, check=True).stdout == f"[{last}]\n"
    assert set(usable_cores()) <= os.sched_getaffinity(0)


def test_processors_that_share_a_core_count_once(tmp_path: Path) -> None:
    numbers = sorted(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == numbers
    for number in numbers:
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text("0-127\n")
    assert usable_cores(tmp_path) == numbers[:1]


NOTHING = Path("/nonexistent")


def meminfo(folder: Path, kilobytes: int) -> Path:
    file = folder / "meminfo"
    file.write_text(f"MemAvailable:   {kilobytes} kB\n")
    return file


def group(folder: Path, **files: object) -> None:
    """A control group's folder; `__` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_a_container_s_limit_counts_of_either_version(tmp_path: Path) -> None:
    system, own = meminfo(tmp_path, 2**20), tmp_path / "cgroup"
    own.write_text("9:name=systemd:/\n4:cpu,memory:/a/b\n0::/c/d\n")
    assert available_bytes(system, own, NOTHING) == 2**30
    version_1, version_2 = tmp_path / "memory" / "a", tmp_path / "c"
    stat = "cache 9\ntotal_inactive_file 1000"
    group(
        version_1 / "b",
        memory__limit_in_bytes=50_000,
        memory__usage_in_bytes=20_000,
        memory__stat=stat,
    )
    assert available_bytes(system, own, tmp_path) == 31_000
    # The limit of a group above is one too.
    group(version_2, memory__max=9_000, memory__current=2_500, memory__stat="inactive_file 500")
    group(version_2 / "d", memory__max="max", memory__current=2_500, memory__stat="file 1")
    assert available_bytes(system, own, tmp_path) == 7_000


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/docker/abc\n")
    group(tmp_path, memory__max=5_000, memory__current=6_000, memory__stat="inactive_file 0")
    assert available_bytes(meminfo(tmp_path, 2**20), own, tmp_path) == 0


def test_the_peak_of_this_process_is_that_since_it_was_restarted(tmp_path: Path) -> None:
    assert resident_bytes(status=NOTHING) is None
    assert not restart_peak(NOTHING / "clear_refs")
    before, taken = resident_bytes() or 0, 100 * 2**20
    assert restart_peak()
    bytes_of_ones = b"1" * taken
    del bytes_of_ones
    assert (resident_bytes(peak=True) or 0) - before > taken * 0.9
    assert restart_peak()
    assert (resident_bytes(peak=True) or 0) - before < taken * 0.5
