"""From a package's graph to one that is optimised, offline, for ONNX Runtime's CUDA provider.

`compiler.compile_role(package, role, precision, folder)` writes `ROLE.onnx`, typed and fused, with
what `capturable.uncapturable(model)` says that no CUDA graph can hold, and
`check.check_role(package, role, graph, precision, calls)` holds it to the package's own graph on
the CPU. What ONNX Runtime does well when it opens a graph is left to it: folding constants,
and fusing SiLU, GELU and the norms of rows.
"""

VERSION = 3
"""Of what is done to a graph; another one makes another target, and the older is not taken."""
