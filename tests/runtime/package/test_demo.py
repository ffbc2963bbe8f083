"""The demo model that Calotype comes with."""

from pathlib import Path

import pytest

from runtime.errors import PackageError
from runtime.package.manifest import DEMO, read_package


def test_an_engines_folder_without_a_demo_gives_calotypes_own(tmp_path: Path) -> None:
    for engines in (tmp_path, tmp_path / "absent"):
        package = read_package(engines, "demo")
        assert (package.path, package.manifest.name) == (DEMO, "demo")


def test_a_demo_in_the_engines_folder_goes_first(tmp_path: Path) -> None:
    """Also one that is damaged: it is what was asked for."""
    (tmp_path / "demo").mkdir()
    with pytest.raises(PackageError, match=str(tmp_path / "demo")):
        read_package(tmp_path, "demo")


def test_no_other_name_leads_to_it(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="model 'vae_decoder' is not in"):
        read_package(tmp_path, "vae_decoder")
