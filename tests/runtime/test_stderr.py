"""Lines on a standard error that nobody reads for a while."""

import subprocess
import sys

from tests.places import ROOT

SCRIPT = """
import logging, sys
from runtime import stderr

stderr.PATIENCE_MS = 20
logging.getLogger().addHandler(stderr.StderrLines())
for number in range(30):
    logging.warning("%d %s", number, "x" * 10_000)
print("written", flush=True)
sys.stdin.readline()
logging.warning("read again")
"""


def test_lines_that_nobody_reads_are_lost_whole_and_counted() -> None:
    command = [sys.executable, "-c", SCRIPT]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"written\n"
        read = process.stderr.read(40_000)
        process.stdin.write(b"\n")
        process.stdin.flush()
        lines = (read + process.stderr.read()).decode().splitlines()
    *long, again, lost = lines
    assert long == [f"{number} {'x' * 10_000}" for number in range(len(long))]
    assert 4 <= len(long) < 30
    assert (again, lost) == (
        "read again",
        f"{30 - len(long)} lines were lost: nobody read standard error",
    )


def test_a_reader_that_has_gone_ends_nobody() -> None:
    script = SCRIPT.replace("sys.stdin.readline()", "")
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stderr.close()
    assert process.stdout.read() == b"written\n"
    process.stdout.close()
    assert process.wait(60) == 0
