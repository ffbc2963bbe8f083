"""Makes type stubs of TensorRT for RTX from its binary, for the type checker.

    python -m scripts.tensorrt_stubs FOLDER

The wheels carry no types. The generator leaves untyped whatever it cannot read in them, and says
so; where the generator writes invalid Python, `mended` corrects the stub.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

BINARY = "tensorrt_rtx_bindings.tensorrt_rtx"
PACKAGE = "tensorrt_rtx"

# The vendor's data type `bool`, which hides Python's `bool`.
_HIDING = re.compile(r"^bool: .*\n", re.MULTILINE)

# C++ has parameters called `in`, and parameters with a default before others without.
_KEYWORD = re.compile(r"\bin: ")
_UNORDERED = re.compile(r"(\w+: Weights = None, channel_axis: typing\.SupportsInt)\)")


def mended(stub: str) -> str:
    """Generated stub, corrected so that the type checker can read it."""
    untyped = _HIDING.sub("", stub.replace("-> ...:", "-> typing.Any:"))
    return _UNORDERED.sub(r"\1 = ...)", _KEYWORD.sub("in_: ", untyped))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder for the stubs")
    folder: Path = parser.parse_args().folder
    command = [str(Path(sys.executable).with_name("pybind11-stubgen")), BINARY, "-o", str(folder)]
    command += ["--enum-class-locations", f".*:{BINARY}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    stub = folder.joinpath(*BINARY.split(".")).with_suffix(".pyi")
    if done.returncode or not stub.is_file():
        raise SystemExit(f"pybind11-stubgen failed: {done.stderr}")
    stub.write_text(mended(stub.read_text()))
    (folder / PACKAGE).mkdir(exist_ok=True)
    (folder / PACKAGE / "__init__.pyi").write_text(f"from {BINARY} import *\n\n__version__: str\n")


if __name__ == "__main__":
    main()
