"""The server against its own OpenAPI document: Schemathesis looks for what neither foresaw."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.keys import KeyFile, Scope
from tests.api.live import LiveServer, Options
from tests.places import ROOT

LIMITS = {"short": (20, 5), "long": (60, 20), "soak": (600, 10_000)}
"""Seconds, and fuzzed requests of an operation, by the profile of property tests."""
COMMAND = str(Path(sys.executable).with_name("schemathesis"))
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
def test_schemathesis_finds_nothing(
    tiny_package: Path, tmp_path: Path, pytestconfig: pytest.Config, keyed: bool
) -> None:
    """Examples, coverage, fuzzing and stateful; each phase says by its name that it ran. With keys,
    what the document says of them is held to, too: an operation that forgets to ask is found.
    """
    data, flags, caller = tmp_path / "data", (), ()
    if keyed:
        key = KeyFile(data).create("schemathesis", Scope.ADMIN)
        flags, caller = ("--keys",), ("--header", f"Authorization: Bearer {key}")
    seconds, examples = LIMITS[pytestconfig.getoption("--hypothesis-profile") or "short"]
    phases = ("Examples", "Coverage", "Fuzzing", "Stateful")
    with LiveServer(Options(tiny_package, data, flags=flags)) as server:
        done = subprocess.run(
            [
                *(COMMAND, "--config-file", str(CONFIG), "--no-color"),
                *("run", f"{server.url}/openapi.json", "--seed", "1"),
                *("--phases", ",".join(phases).lower(), "--max-time", str(seconds)),
                *("--max-examples", str(examples)),
                *caller,
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert all(f"\u2705 {phase}" in done.stdout for phase in phases), done.stdout
    assert "Selected: 36/36" in done.stdout
