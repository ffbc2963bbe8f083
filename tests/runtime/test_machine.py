"""Facts of the machine."""

from pathlib import Path

from runtime.machine import available_bytes


def test_available_memory_is_read_where_the_system_tells(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    assert available_bytes(file) is None
    file.write_text("MemTotal:       65536 kB\nMemAvailable:   32768 kB\n")
    assert available_bytes(file) == 32 * 2**20


def test_this_machine_has_memory_available() -> None:
    assert (available_bytes() or 0) > 2**20
