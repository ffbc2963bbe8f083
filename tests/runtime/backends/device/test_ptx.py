"""The GPU for PTX: what it computes, and each fault that it finds."""

import struct

import numpy as np
import pytest

from tests.fakes.ptx.machine import Fault, launch
from tests.fakes.ptx.memory import Array
from tests.fakes.ptx.parse import PtxError
from tests.fakes.ptx.program import Program, programs_of

INPUT, OUTPUT = 0x7000_0000_0000, 0x7100_0000_0000

HEAD = """
.version 8.0
.target sm_75
.shared .align 4 .b8 kept[256];
.visible .entry it(
    .param .u64 it_param_0,
    .param .u64 it_param_1
)
{
    .reg .pred %p<9>;
    .reg .b16 %rs<9>;
    .reg .b32 %r<99>;
    .reg .f32 %f<9>;
    .reg .b64 %rd<9>;

    ld.param.u64 %rd1, [it_param_0];
    ld.param.u64 %rd2, [it_param_1];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;   // the thread's number of the input
    add.s64 %rd5, %rd2, %rd3;   // and of the output
"""


def program(body: str) -> Program:
    return programs_of(HEAD + body + "\n    ret;\n}\n")["it"]


def run(
    body: str,
    numbers: np.ndarray | None = None,
    threads: int = 32,
    blocks: int = 1,
    addresses: tuple[int, int] = (INPUT, OUTPUT),
) -> np.ndarray:
    """The output's words: as many as the input has, or one for each thread."""
    given = np.arange(threads, dtype="u4") if numbers is None else numbers
    made = np.full(given.size, 7777, "u4")
    arrays = [
        Array(name, address, array.view("u1"))
        for name, address, array in (("input", INPUT, given), ("output", OUTPUT, made))
    ]
    parameters = struct.pack("<2Q", *addresses)
    return launch(program(body), (blocks, 1, 1), threads, parameters, arrays)["output"].view("u4")


STORE = "st.global.u32 [%rd5], %r9;"


def test_threads_that_part_meet_again_and_loops_end_one_by_one() -> None:
    body = """
        mov.u32 %r9, 0;
        mov.u32 %r2, 0;
    $loop:
        setp.ge.u32 %p1, %r2, %r1;
        @%p1 bra $out;
        add.s32 %r9, %r9, %r2;
        add.s32 %r2, %r2, 1;
        bra.uni $loop;
    $out:
        and.b32 %r3, %r1, 1;
        setp.eq.s32 %p2, %r3, 0;
        @!%p2 neg.s32 %r9, %r9;
        mov.u32 %r4, -1;
        mov.u32 %r5, 31;
        mov.u32 %r6, 1;
        shfl.sync.bfly.b32 %r9|%p3, %r9, %r6, %r5, %r4;
    """
    numbers = np.arange(64) ^ 1
    expected = numbers * (numbers - 1) // 2 * np.where(numbers % 2, -1, 1)
    assert (run(body + STORE, threads=64).view("i4") == expected).all()


def test_a_barrier_makes_what_other_warps_wrote_readable_in_each_block_for_itself() -> None:
    body = """
        mov.u32 %r7, %ctaid.x;
        mad.lo.s32 %r8, %r7, 64, %r1;
        mov.u64 %rd6, kept;
        add.s64 %rd7, %rd6, %rd3;
        st.shared.u32 [%rd7], %r8;
        bar.sync 0;
        xor.b32 %r2, %r1, 63;
        mul.wide.u32 %rd3, %r2, 4;
        add.s64 %rd7, %rd6, %rd3;
        ld.shared.u32 %r9, [%rd7];
        mul.wide.u32 %rd3, %r8, 4;
        add.s64 %rd5, %rd2, %rd3;
    """
    made = run(body + STORE, np.zeros(192, "u4"), threads=64, blocks=3)
    assert (made == np.arange(192) ^ 63).all()


FLOATS = np.array([1.5, -2.0, 0.1, np.inf, np.nan, 1e-40, 65520.0, -0.0], "f4")


def bits(number: float) -> int:
    return int(np.float32(number).view("u4"))


@pytest.mark.parametrize(
    ("instruction", "given", "expected"),
    [
        ("shr.s32 %r9, %r8, 1;", -7, -4),
        ("shr.s32 %r9, %r8, 40;", -7, -1),
        ("shr.u32 %r9, %r8, 28;", -7, 15),
        ("shr.u32 %r9, %r8, 40;", -7, 0),
        ("shl.b32 %r9, %r8, 31;", -7, -(2**31)),
        ("shl.b32 %r9, %r8, 32;", -7, 0),
        ("rem.s32 %r9, %r8, 3;", -7, -1),
        ("mul.lo.s32 %r9, %r8, 0x40000000;", 6, -(2**31)),
        ("mul.wide.s32 %rd6, %r8, -2; shr.s64 %rd6, %rd6, 32; cvt.u32.u64 %r9, %rd6;", 7, -1),
        ("cvt.s64.s32 %rd6, %r8; shr.u64 %rd6, %rd6, 32; cvt.u32.u64 %r9, %rd6;", -7, -1),
        ("cvt.u64.u32 %rd6, %r8; shr.u64 %rd6, %rd6, 32; cvt.u32.u64 %r9, %rd6;", -7, 0),
        ("cvt.u16.u32 %rs1, %r8; mov.b32 %r9, {%rs1, %rs1};", 0x70005, 0x50005),
        ("setp.lt.s32 %p1, %r8, 0; selp.b32 %r9, 1, 2, %p1;", -7, 1),
        ("setp.lt.u32 %p1, %r8, 1; selp.b32 %r9, 1, 2, %p1;", -7, 2),
        ("setp.lt.s32 %p1, %r8, 0; not.pred %p2, %p1; selp.u32 %r9, 1, 2, %p2;", -7, 2),
        ("cvt.rn.f32.s32 %f1, %r8; mov.b32 %r9, %f1;", -7, bits(-7.0) - 2**32),
    ],
)  # fmt: skip
def test_integers(instruction: str, given: int, expected: int) -> None:
    lines = "ld.global.u32 %r8, [%rd1];" + instruction
    body = lines.replace(";", ";\n") + "st.global.u32 [%rd2], %r9;"
    made = run(body, np.array([given], "i4"), threads=1)
    assert made.view("i4")[0] == expected


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("add.f32 %f2, %f1, 0f3F800000;", FLOATS + np.float32(1)),
        ("fma.rn.f32 %f2, %f1, %f1, %f1;", FLOATS * FLOATS + FLOATS),
        ("abs.f32 %f2, %f1;", np.abs(FLOATS)),
        ("rcp.approx.ftz.f32 %f2, %f1;",
         [1 / 1.5, -0.5, 10, 0, np.nan, np.inf, 1 / 65520, -np.inf]),
        ("ex2.approx.ftz.f32 %f2, %f1;", [2**1.5, 0.25, 2**0.1, np.inf, np.nan, 1, np.inf, 1]),
        ("cvt.rn.f16.f32 %rs1, %f1; cvt.f32.f16 %f2, %rs1;",
         [1.5, -2, np.float16(0.1), np.inf, np.nan, 0, np.inf, -0.0]),
        ("cvt.rn.bf16x2.f32 %r7, %f1, 0f3F800000; and.b32 %r7, %r7, 0xFFFF0000; mov.b32 %f2, %r7;",
         [1.5, -2, 0.10009765625, np.inf, np.nan, 1e-40, 65536, -0.0]),
        ("setp.ltu.f32 %p1, %f1, 0f00000000; selp.f32 %f2, 0f3F800000, 0f00000000, %p1;",
         [0, 1, 0, 0, 1, 0, 0, 0]),
        ("setp.ne.f32 %p1, %f1, 0f00000000; selp.f32 %f2, 0f3F800000, 0f00000000, %p1;",
         [1, 1, 1, 1, 0, 1, 1, 0]),
        ("setp.nan.f32 %p1, %f1, %f1; selp.f32 %f2, 0f3F800000, 0f00000000, %p1;",
         [0, 0, 0, 0, 1, 0, 0, 0]),
    ],
)  # fmt: skip
def test_floats(instruction: str, expected: np.ndarray) -> None:
    body = "ld.global.f32 %f1, [%rd4];\n" + instruction.replace(";", ";\n")
    made = run(body + "st.global.f32 [%rd5], %f2;", FLOATS, threads=8).view("f4")
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(made, np.array(expected, "f4"), rtol=1e-6, atol=1e-37)


ODD = "and.b32 %r3, %r1, 1;\nsetp.eq.s32 %p1, %r3, 1;\n"
EXCHANGE = "shfl.sync.bfly.b32 %r9|%p3, %r1, 1, 31, -1;\n"
IN_SHARED = "mov.u64 %rd6, kept;\nadd.s64 %rd7, %rd6, %rd3;\n"
NEXT_IN_SHARED = "ld.shared.u32 %r9, [%rd7+4];\n"

FAULTS = {
    "in front of an array": (
        "ld.global.u32 %r9, [%rd4+-4];",
        "thread 0: ld.global.u32 %r9, [%rd4+-4]; 4 bytes at 0x6ffffffffffc are outside of all",
    ),
    "behind an array": (
        "ld.global.u32 %r9, [%rd4+4];",
        ("thread 31: ld.global.u32 %r9, [%rd4+4]; 4 bytes at 0x700000000080 are outside of all "
        "arrays; input has 128, and this is 128 behind its begin"),
    ),
    "a write behind an array": ("st.global.u32 [%rd5+4], %r1;", "thread 31: st.global.u32"),
    "over an array's end": (
        ("and.b64 %rd6, %rd4, -16;\nadd.s64 %rd6, %rd6, 32;\n"
        "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd6];"),
        "thread 24: ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd6]; 16 bytes at 0x700000000080",
    ),
    "misaligned": (
        "ld.global.u32 %r9, [%rd4+2];",
        "thread 0: ld.global.u32 %r9, [%rd4+2]; 4 bytes at 0x700000000002: not a multiple of 4",
    ),
    "a misaligned vector": (
        "ld.global.nc.v4.u32 {%r2, %r3, %r4, %r5}, [%rd4];",
        ("thread 1: ld.global.nc.v4.u32 {%r2, %r3, %r4, %r5}, [%rd4]; 16 bytes at 0x700000000004: "
        "not a multiple of 16"),
    ),
    "a register that nobody wrote": (
        "add.s32 %r9, %r50, 1;",
        "thread 0: add.s32 %r9, %r50, 1; reads %r50, which is not written yet",
    ),
    "a register that some wrote": (
        ODD + "@%p1 mov.u32 %r9, 5;\nadd.s32 %r9, %r9, 1;",
        "thread 0: add.s32 %r9, %r9, 1; reads %r9, which is not written yet",
    ),
    "a copy of a register that some wrote": (
        ODD + "mov.u32 %r9, 0;\n@%p1 mov.u32 %r8, 5;\nmov.u32 %r9, %r8;\n"
        "@%p1 add.s32 %r9, %r9, 1;\n@!%p1 add.s32 %r9, %r9, 1;",
        "thread 0: @!%p1 add.s32 %r9, %r9, 1; reads %r9, which is not written yet",
    ),
    "a shuffle that some do not take": (
        ODD + "@%p1 bra $L;\n" + EXCHANGE + "$L:",
        "thread 0: shfl.sync.bfly.b32 %r9|%p3, %r1, 1, 31, -1; waits for thread 1, which ended",
    ),
    "a shuffle under a predicate": (
        ODD + "@%p1 " + EXCHANGE,
        "thread 1: @%p1 shfl.sync.bfly.b32 %r9|%p3, %r1, 1, 31, -1; waits for thread 0",
    ),
    "two shuffles for one warp": (
        ODD + "@%p1 bra $A;\n" + EXCHANGE + "bra $B;\n$A:\n" + EXCHANGE + "$B:",
        "waits for thread 1, which is at shfl.sync.bfly.b32",
    ),
    "a barrier that some do not take": (
        ODD + "@%p1 ret;\nbar.sync 0;",
        "thread 0: bar.sync 0; waits for thread 1, which ended",
    ),
    "two barriers for one block": (
        ODD + "@%p1 bra $A;\nbar.sync 0;\nbra $B;\n$A:\nbar.sync 0;\n$B:",
        "thread 0: bar.sync 0; waits for thread 1, which is at bar.sync 0;",
    ),
    "outside of a shared array": (
        IN_SHARED + "st.shared.u32 [%rd7+132], %r1;",
        ("thread 31: st.shared.u32 [%rd7+132], %r1; 4 bytes at 0x110 are outside of all arrays; "
        "kept has 256, and this is 256 behind its begin"),
    ),
    "shared memory that nobody wrote": (
        IN_SHARED + "ld.shared.u32 %r9, [%rd7];",
        "thread 0: ld.shared.u32 %r9, [%rd7]; reads what is not written yet",
    ),
    "a read without a barrier": (
        IN_SHARED + "st.shared.u32 [%rd7], %r1;\nst.shared.u32 [%rd7+128], %r1;\n" + NEXT_IN_SHARED,
        "thread 0: ld.shared.u32 %r9, [%rd7+4]; reads what another thread writes",
    ),
    "a write without a barrier": (
        IN_SHARED + "st.shared.u32 [%rd7], %r1;\nst.shared.u32 [%rd7+128], %r1;\nbar.sync 0;\n"
        + NEXT_IN_SHARED + "st.shared.u32 [%rd7], %r1;",
        "st.shared.u32 [%rd7], %r1; writes what another thread reads",
    ),
    "two writes of one place": (
        IN_SHARED + "st.shared.u32 [%rd6], %r1;",
        "st.shared.u32 [%rd6], %r1; writes what another thread writes",
    ),
    "the cache for constants behind a write": (
        "st.global.u32 [%rd5], %r1;\nld.global.nc.u32 %r9, [%rd5];",
        "reads through the cache for constants what is written",
    ),
    "a write behind the cache for constants": (
        "ld.global.nc.u32 %r9, [%rd5];\nst.global.u32 [%rd5], %r1;",
        "writes what is read through the cache for constants",
    ),
    "a loop without an end": ("$L:\nbra $L;", "thread 0: bra $L; comes to no end"),
    "a shuffle of part of a warp": (
        EXCHANGE.replace("31, -1", "7, -1"),
        "shfl.sync.bfly.b32 %r9|%p3, %r1, 1, 7, -1; is not known here with these numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_thread_and_instruction(name: str) -> None:
    body, words = FAULTS[name]
    with pytest.raises(Fault) as raised:
        run(body)
    assert str(raised.value).startswith("it: block (0, 0, 0), thread ")
    assert words in str(raised.value)


def test_two_blocks_that_write_one_place() -> None:
    with pytest.raises(Fault, match=r"block \(0, 0, 0\).* writes what another thread writes"):
        run("st.global.u32 [%rd5], %r1;", blocks=2)


def test_a_shuffle_of_a_warp_that_is_not_whole() -> None:
    words = r"thread 32: shfl.*is in a warp of less than 32 threads"
    with pytest.raises(Fault, match=words):
        run(EXCHANGE, threads=40)


def test_parameters_that_are_too_short() -> None:
    with pytest.raises(Fault, match="it: 8 of 16 bytes are given"):
        launch(program(""), (1, 1, 1), 32, bytes(8), [])


HOISTED = """
    ld.global.nc.v4.u32 {%r2, %r3, %r4, %r5}, [%rd1];
    mov.u32 %r8, 0;
    mov.u32 %r9, 0;
$loop:
    setp.eq.s64 %p1, %rd1, 0;
    @%p1 bra $none;
    add.s32 %r9, %r9, %r5;
$none:
    add.s32 %r8, %r8, 1;
    setp.lt.s32 %p2, %r8, 4;
    @%p2 bra $loop;
"""
"""A read in front of the question whether there is anything at its address."""


def test_a_read_that_was_moved_in_front_of_the_question_for_its_address() -> None:
    assert (run(HOISTED + STORE) == 12).all()
    with pytest.raises(Fault, match=r"ld\.global\.nc\.v4\.u32 .*; 16 bytes at 0x0 are outside"):
        run(HOISTED + STORE, addresses=(0, OUTPUT))


@pytest.mark.parametrize("offset", [-16, 0, 16])
def test_nothing_is_at_an_address_of_zero(offset: int) -> None:
    with pytest.raises(Fault, match=r"16 bytes at 0x.* are outside of all arrays"):
        run(f"ld.global.v4.u32 {{%r2, %r3, %r4, %r5}}, [%rd1+{offset}];", addresses=(0, OUTPUT))


@pytest.mark.parametrize(
    "line",
    [
        "popc.b32 %r9, %r1;",
        "add.rz.f32 %f1, %f1, %f1;",
        "add.s32 %r9, %r1;",
        "add.s32 %rd1, %rd1, %rd1;",
        "setp.lt.and.s32 %p1, %r1, %r1, %p2;",
        "ld.local.u32 %r9, [%rd1];",
        "ld.global.v3.u32 {%r2, %r3, %r4}, [%rd1];",
        "ld.param.u64 %rd1, [it_param_1+4];",
        "ld.param.u64 %rd1, [it_param_2];",
        "mov.u64 %rd1, nothing;",
        "bar.sync 1;",
        "bra $nowhere;",
        "shfl.sync.up.b32 %r9, %r1, 1, 31, -1;",
        "atom.global.add.u32 %r9, [%rd1], %r1;",
    ],
)
def test_an_instruction_that_is_not_known_is_named(line: str) -> None:
    with pytest.raises(PtxError) as raised:
        program(line)
    assert str(raised.value) == f"it: unknown here: {line}"


@pytest.mark.parametrize(
    "line", ["mov.u32 %r9, %laneid;", "mov.u32 %r9, %r99;", "what", ".local x;"]
)
def test_a_line_that_is_not_known_is_named(line: str) -> None:
    with pytest.raises(PtxError) as raised:
        program(line)
    assert line in str(raised.value)
