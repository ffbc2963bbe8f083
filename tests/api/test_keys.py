"""Files of keys, and the command that writes them."""

import stat
import subprocess
from pathlib import Path

import pytest

from api.keys import FILE, KeyFile, KeysError, Scope
from tests.api.live import CALOTYPE, clean_environment


def calotype(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [CALOTYPE, "keys", *arguments, "--data", str(data)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=clean_environment()
    )


def test_a_key_is_found_by_itself_alone(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    first, second = keys.create("first", Scope.READ), keys.create("second", Scope.ADMIN)
    found = keys.find(first)
    assert found is not None
    assert (found.name, found.scope) == ("first", Scope.READ)
    assert keys.find(second) != found
    for wrong in ("", first[:-1], first + "x", first[:-1] + "ä", first.swapcase(), "x" * 10_000):
        assert keys.find(wrong) is None
    swapped = first.rpartition("_")[0] + "_" + second.rpartition("_")[2]
    assert keys.find(swapped) is None


def test_the_file_is_its_owners_and_holds_no_key(tmp_path: Path) -> None:
    key = KeyFile(tmp_path).create("first", Scope.READ)
    path = tmp_path / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.rpartition("_")[2] not in path.read_text()


def test_another_process_makes_and_revokes_keys(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    made = calotype(tmp_path, "create", "bot", "--scope", "read")
    key = made.stdout.strip()
    found = keys.find(key)
    assert found is not None
    assert (found.name, found.scope) == ("bot", Scope.READ)
    listed = calotype(tmp_path, "list").stdout
    assert listed.startswith("bot\tread\t")
    assert key not in listed
    assert calotype(tmp_path, "revoke", "bot").returncode == 0
    assert keys.find(key) is None
    again = calotype(tmp_path, "revoke", "bot")
    assert (again.returncode, again.stderr) == (
        1,
        "calotype: there is no key named 'bot'; there are: none\n",
    )


def test_a_name_is_taken_once_and_is_a_plain_word(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.create("bot", Scope.READ)
    with pytest.raises(KeysError, match="a key named bot"):
        keys.create("bot", Scope.ADMIN)
    for wrong in ("", "a b", "../x", "x" * 65, "a\n"):
        with pytest.raises(KeysError, match="no name of a key"):
            keys.create(wrong, Scope.READ)
    assert [key.name for key in keys.all()] == ["bot"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"signing": "zz", "keys": []}',
        b'{"signing": "", "keys": [{}]}',
        b'{"signing": "", "keys": [{"id": "a", "name": "b", "scope": "all"}]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(KeysError, match=r"keys\.json: no file of keys .* put the right one back"):
        KeyFile(tmp_path).all()
