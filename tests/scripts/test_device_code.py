"""Device code that is left out of a library: on ELF files that the C compiler makes."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from scripts.device_code import DeviceCodeError, architecture_of, keep_only, main

PTX, MACHINE_CODE = 1, 2

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def entry(kind: int, architecture: int, payload: bytes, header: int = 64) -> bytes:
    start = struct.pack("<HHIQ", kind, 0x101, header, len(payload))
    rest = struct.pack("<12xI", architecture)
    return (start + rest).ljust(header, b"\x11") + payload


def container(*entries: bytes, padding: int = 0) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content + bytes(padding)


def library(folder: Path, device_code: bytes, section: str = ".nv_fatbin") -> Path:
    """A shared library whose function answers 7, with this in a section of its own."""
    (folder / "code.bin").write_bytes(device_code)
    (folder / "library.c").write_text("int answer(void) { return 7; }\n")
    (folder / "section.s").write_text(
        f'.section {section},"a",@progbits\n.balign 8\n.incbin "code.bin"\n'
        '.section .note.GNU-stack,"",@progbits\n'
    )
    command = [str(COMPILER), "-shared", "-fPIC", "-o", "library.so", "library.c", "section.s"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "library.so"


TWO = container(
    entry(PTX, 90, b"text of ptx"),
    entry(MACHINE_CODE, 80, b"code for 80"),
    entry(MACHINE_CODE, 90, b"code for 90"),
    entry(MACHINE_CODE, 90, b"that of 90a", header=112),
    padding=-(64 * 3 + 112 + 44) % 8,
) + container(entry(PTX, 70, b"ptx that 90 needs"), entry(MACHINE_CODE, 86, b"code for 86"))


@pytest.mark.parametrize(
    ("gpu", "left"),
    [
        ("sm_90", [b"code for 90", b"that of 90a", b"ptx that 90 needs"]),
        ("sm_86", [b"code for 80", b"code for 86"]),
        ("sm_89", [b"code for 80", b"code for 86"]),
    ],
)
def test_what_the_gpu_loads_is_left_and_all_else_is_zeros(
    gpu: str, left: list[bytes], tmp_path: Path
) -> None:
    path = library(tmp_path, TWO)
    before = path.read_bytes()
    after = bytearray(before)
    kept, blanked = keep_only(after, architecture_of(gpu), "library.so")
    payloads = [b"text of ptx", b"ptx that 90 needs", b"that of 90a"]
    payloads += [f"code for {each}".encode() for each in (80, 86, 90)]
    expected = before
    for payload in payloads:
        if payload not in left:
            expected = expected.replace(payload, bytes(len(payload)))
    assert bytes(after) == expected != before
    assert kept == sum(map(len, left))
    assert kept + blanked == sum(map(len, payloads))


def test_the_library_still_loads(tmp_path: Path) -> None:
    path = library(tmp_path, TWO)
    assert main([str(path), str(tmp_path / "slim.so"), "sm_90"]) == 0
    (tmp_path / "main.c").write_text("int answer(void); int main(void) { return answer(); }\n")
    build = [str(COMPILER), "-o", "main", "main.c", "./slim.so"]
    subprocess.run(build, cwd=tmp_path, check=True)
    assert subprocess.run(["./main"], cwd=tmp_path, check=False).returncode == 7


GOOD = entry(MACHINE_CODE, 90, b"code for 90")
REFUSED = {
    "another magic": (b"\0" * 16 + container(GOOD), "the magic number 0xba55ed50"),
    "another container": (
        struct.pack("<IHHQ", 0xBA55ED50, 2, 16, len(GOOD)) + GOOD,
        "a container of version 1",
    ),
    "another kind": (container(entry(8, 90, b"code for 90")), "PTX (1) or machine code"),
    "another entry": (container(GOOD[:2] + b"\2" + GOOD[3:]), "an entry of version 257"),
    "an entry too long": (container(GOOD[:-1]), "an entry that ends"),
    "a container too long": (container(GOOD)[:-1], "a container that ends"),
    "a header cut off": (container(GOOD + bytes(5)) + b"\x50\xed", "room for"),
    "no zeros between": (container(GOOD) + b"\1" * 5, "zeros up to the next container"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_format_is_refused_and_nothing_is_changed(case: str, tmp_path: Path) -> None:
    device_code, expected = REFUSED[case]
    content = bytearray(library(tmp_path, device_code).read_bytes())
    before = bytes(content)
    with pytest.raises(DeviceCodeError) as refusal:
        keep_only(content, 90, "library.so")
    assert str(refusal.value).startswith("library.so: ")
    assert f"expected {expected}" in str(refusal.value)
    assert bytes(content) == before


def test_code_for_no_such_gpu_is_told_with_what_there_is(tmp_path: Path) -> None:
    content = bytearray(library(tmp_path, container(GOOD)).read_bytes())
    with pytest.raises(DeviceCodeError, match=r"no device code for sm_75; it has sm_90"):
        keep_only(content, 75, "library.so")


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"MZ" * 50, "expected a little-endian ELF"), (b"\x7fELF\2\1" + b"\xff" * 80, "lie outside")],
    ids=["not ELF", "cut off"],
)
def test_what_is_no_library_is_refused(
    content: bytes, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "it").write_bytes(content)
    assert main([str(tmp_path / "it"), str(tmp_path / "out"), "sm_90"]) == 1
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_library_without_device_code_is_refused(tmp_path: Path) -> None:
    content = bytearray(library(tmp_path, TWO, ".nv_fatbinary").read_bytes())
    with pytest.raises(DeviceCodeError, match=r"no section \.nv_fatbin"):
        keep_only(content, 90, "library.so")


def test_a_gpu_is_named_as_everywhere() -> None:
    with pytest.raises(DeviceCodeError, match="'90' is no compute capability such as sm_90"):
        architecture_of("90")
