"""Facts of the machine."""

import os
import subprocess
import sys
from pathlib import Path

from runtime.machine import available_bytes, processor, usable_cores


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
