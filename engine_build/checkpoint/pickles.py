"""Refuses weights in Python's pickle format by the names of their files."""

from pathlib import PurePosixPath

from runtime.errors import SourceError

_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


def refuse_pickle(name: str) -> None:
    """Raise SourceError if a file of this name would be one of Python's pickles."""
    if PurePosixPath(name).suffix.lower() in _PICKLES:
        raise SourceError(
            f"{name}: weights in Python's pickle format are not read, since opening them can run "
            "code; expected a .safetensors file"
        )
