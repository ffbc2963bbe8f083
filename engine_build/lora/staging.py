"""The place of a pack that is being made: whole when it appears under its name."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import PackageError, SourceError
from runtime.files import put_in_place

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._-]+")


def identity_of(stem: str) -> str:
    """The id of a pack that is named after its file. Raises SourceError for a name without one."""
    identity = _NOT_IN_AN_ID.sub("_", stem).strip("._-")[:64]
    if not identity:
        raise SourceError(f"{stem!r} gives no id for the pack; name it with --id")
    return identity


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A folder that becomes `place` when the block ends well, and is gone otherwise.

    Raises PackageError where the model package may not be written.
    """
    try:
        place.parent.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
    except OSError as error:
        package = place.parents[1]
        raise PackageError(
            f"{package}: cannot be written ({error.strerror}); copy this model package into an "
            f"engines folder of your own (cp -r {package} engines/) and add to the copy"
        ) from error
    try:
        yield folder
        folder.chmod(0o755)
        put_in_place(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
