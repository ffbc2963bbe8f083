"""From a package's graph to ones that are optimised, offline, for ONNX Runtime's CUDA provider.

`compiler.compile_role` writes `ROLE.onnx`, typed and fused, and `ROLE.prelude.onnx` where a part of
it depends on the conditioning alone; `capturable.uncapturable` names what no CUDA graph can hold.
`variants.write_variants` writes the graphs that run while LoRAs act, and `check.check_compiled`
holds a role's graphs to the package's own on the CPU. Folding constants, and the sigmoid's GELU,
are left to ONNX Runtime, which does both when it opens a graph.
"""

VERSION = 6
"""The version of the optimisations of a graph, and a part of a target's identity: after a change of
the version, `engine-build compile` makes another target."""
