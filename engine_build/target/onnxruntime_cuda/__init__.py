"""From a package's graph to one that is optimised, offline, for ONNX Runtime's CUDA provider.

`compiler.compile_role(package, role, precision, folder)` writes `ROLE.onnx`, typed and fused, with
what `capturable.uncapturable(model)` says that no CUDA graph can hold.
`variants.write_variants(graph, record)` writes the graphs that run while LoRAs act, and
`check.check_compiled(package, role, graph, precision, calls)` holds `ROLE.onnx` to the package's
own graph on the CPU. What ONNX Runtime does well when it opens a graph is left to it: folding
constants, and fusing SiLU, GELU and the norms of rows.
"""

VERSION = 5
"""The version of the optimisations of a graph, and a part of a target's identity: after a change of
the version, `engine-build compile` makes another target."""
