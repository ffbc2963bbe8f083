"""A picture's file that goes between the look for it and the reading of it."""

from pathlib import Path

from api.file_content import file_content


def test_a_file_that_is_deleted_meanwhile_is_none(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"picture")
    assert file_content(tmp_path.joinpath, "there.png") == b"picture"
    assert file_content(tmp_path.joinpath, "gone.png") is None
    assert file_content(lambda _: None, "there.png") is None
