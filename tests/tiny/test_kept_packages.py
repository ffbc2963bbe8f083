"""A package is built again when anything changes that it follows from, and else copied."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine_build.package.build import BuildRequest
from engine_build.package.export.role import Choices
from tests.tiny.kept_packages import KEPT, KeptPackages


class Builder:
    """Writes a file in the place of graphs, and counts."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, request: BuildRequest) -> None:
        self.built += 1
        package = request.engines / request.name
        package.mkdir(parents=True)
        (package / "manifest.json").write_bytes((request.source / "config.json").read_bytes())


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.fixture
def kept(tmp_path: Path, builder: Builder) -> KeptPackages:
    return KeptPackages(tmp_path / "kept", builder)


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    return BuildRequest(source, "tiny", tmp_path / "engines")


def test_the_same_is_built_once_and_copied_to_whoever_asks(
    kept: KeptPackages, builder: Builder, request_: BuildRequest, tmp_path: Path
) -> None:
    kept.build(request_)
    (request_.engines / "tiny" / "manifest.json").write_text("damaged by a test")
    other = replace(request_, engines=tmp_path / "others")
    KeptPackages(tmp_path / "kept", builder).build(other)
    assert (other.engines / "tiny" / "manifest.json").read_text() == "{}"
    assert builder.built == 1


@pytest.mark.parametrize("what", ["source", "choices", "name"])
def test_another_is_built(
    what: str, kept: KeptPackages, builder: Builder, request_: BuildRequest, tmp_path: Path
) -> None:
    kept.build(request_)
    other = replace(request_, engines=tmp_path / "others")
    if what == "source":
        (request_.source / "config.json").write_text("[]")
    elif what == "choices":
        other = replace(other, choices=Choices(max_size=512))
    else:
        other = replace(other, name="tiny2")
    kept.build(other)
    assert builder.built == 2


def test_what_was_used_longest_ago_goes_first(
    kept: KeptPackages, builder: Builder, request_: BuildRequest, tmp_path: Path
) -> None:
    for number in range(KEPT + 1):
        kept.build(replace(request_, name=f"tiny{number}"))
    others = replace(request_, engines=tmp_path / "others")
    kept.build(replace(others, name="tiny1"))
    assert builder.built == KEPT + 1
    kept.build(replace(others, name="tiny0"))
    assert builder.built == KEPT + 2
