"""The packages that tests for a GPU draw with, built where PyTorch is and carried where it is not.

    python -m tests.tiny.packages FOLDER

fills a folder with the committed demo model and six LoRAs, and with a tiny random model of each
family. A package that is there already is left as it is.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.places import ROOT

PACKAGES = "GPU_CHECK_PACKAGES"
"""Names such a folder to the tests."""

ENGINES = "GPU_CHECK_ENGINES"
"""Names a folder to them in which what one process compiled is found by the next."""

DEMO = "demo"
FAMILIES = ("tiny", "tiny_flux", "tiny_schnell", "tiny_chroma", "tiny_zimage")

CACHE = ROOT / ".pytest_cache" / "d" / "tiny_packages"
"""That of the other tests."""


def missing(folder: Path) -> list[str]:
    """Those that a folder does not have."""
    return [name for name in (DEMO, *FAMILIES) if not (folder / name / "manifest.json").is_file()]


def build(folder: Path, names: Iterable[str]) -> None:
    """Build some of them into `folder`. Imports PyTorch and diffusers."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name == DEMO:
            from tests.tiny.lora_packs import demo_with_loras

            demo_with_loras(folder)
        else:
            _build_tiny(folder, name)


def _build_tiny(folder: Path, name: str) -> None:
    from engine_build.package.build import BuildRequest
    from engine_build.package.export.role import Choices
    from tests.conftest import SMALL
    from tests.tiny.kept_packages import KeptPackages

    choices = Choices() if name == "tiny" else SMALL
    with tempfile.TemporaryDirectory() as sources:
        source = _savers()[name](Path(sources) / name)
        KeptPackages(CACHE).build(BuildRequest(source, name, folder, choices=choices))


def _savers() -> dict[str, Callable[[Path], Path]]:
    from benchmarks.tiny import flow_models as flow
    from benchmarks.tiny.models import save_source
    from benchmarks.tiny.zimage_models import zimage_pipeline

    return {
        "tiny": save_source,
        "tiny_flux": lambda path: flow.save_flow_source(path, flow.flux_dev_pipeline()),
        "tiny_schnell": lambda path: flow.save_flow_source(path, flow.flux_schnell_pipeline()),
        "tiny_chroma": lambda path: flow.save_flow_source(path, flow.chroma_pipeline()),
        "tiny_zimage": lambda path: flow.save_flow_source(path, zimage_pipeline()),
    }


def main() -> None:
    """Build what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder: Path = parser.parse_args().folder
    build(folder, missing(folder))


if __name__ == "__main__":
    main()
