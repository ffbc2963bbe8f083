"""Embeddings over HTTP, on the committed demo model."""

import shutil
from pathlib import Path

from engine_build.embedding.packs import remove_embedding
from runtime.package.manifest import read_package
from runtime.package.pack import FOLDER
from tests.api.conftest import Starter
from tests.api.live import Options
from tests.places import ENGINES
from tests.tiny.embedding_files import add_word


def test_an_embedding_comes_and_goes_while_the_server_runs(tmp_path: Path, start: Starter) -> None:
    """It needs no LoRA beside it, and an unknown one is text, with a warning in the job."""
    engines = tmp_path / "engines"
    shutil.copytree(ENGINES / "demo", engines / "demo", ignore=shutil.ignore_patterns(FOLDER))
    package = read_package(engines, "demo")
    api = start(Options(engines, tmp_path / "data", "demo")).api
    wish = {"prompt": "a heart, (embedding:ink:1.1)", "seed": 5}

    def warnings() -> list[str]:
        found: list[str] = api.finish(api.submit(**wish))["warnings"]
        plain = api.finish(api.submit(**wish, prompt_weighting=False))["warnings"]
        assert plain == found
        return found

    (warning,) = warnings()
    assert warning.startswith("'embedding:ink' is taken as text: this model has no embedding of")
    without = api.draw(**wish)
    add_word(package, "ink", 2)
    assert warnings() == []
    drawn = api.draw(**wish)
    assert drawn != without
    assert api.draw(**wish) == drawn
    remove_embedding(package, "ink")
    assert len(warnings()) == 1
    assert api.draw(**wish) == without
