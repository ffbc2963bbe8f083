"""Says whether a graph sees weights that were replaced after it was captured.

    python -m tests.gpu.graph_and_refit ENGINES BACKEND

In a process of its own: a graph that reads memory which is no longer there takes the device from
whatever runs behind it.
"""

import sys
from pathlib import Path
from typing import cast
from unittest.mock import patch

import numpy as np

from runtime.backends.tensorrt.call import TensorRtCall
from runtime.package.backend_name import BackendName
from tests.gpu.conftest import chosen
from tests.gpu.drawing import drawn


def main() -> None:
    """Draw with a LoRA through graphs that were captured without it."""
    demo = chosen(Path(sys.argv[1]), "demo", cast("BackendName", sys.argv[2]))
    first: dict[str, object] = {"loras": [{"id": demo.model.loras()[0].id, "weight": 1.0}]}
    expected = drawn(demo.generator(), **first)
    replaying = demo.generator()
    drawn(replaying)
    with patch.object(TensorRtCall, "forget_graph", lambda _: None):
        print(bool(np.array_equal(drawn(replaying, **first), expected)))


if __name__ == "__main__":
    main()
