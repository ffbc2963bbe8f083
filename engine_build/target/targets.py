"""The identity of a target, from the package and from what a user asks for."""

from dataclasses import dataclass

from engine_build.target.compiler import COMPILERS
from engine_build.target.profiles import Tuning, check_served, profiles_of
from runtime.package.backend_name import BackendName
from runtime.package.manifest import Manifest, Precision
from runtime.package.target import EngineIdentity, TargetIdentity, graph_sha256, weights_sha256
from runtime.plan.families import family_named


@dataclass(frozen=True, slots=True)
class Wanted:
    """A user's wishes for a target."""

    backend: BackendName
    compute_capability: str
    served: Tuning
    precision: Precision | None = None
    """None for the default precision of each role."""
    fixed_weights: bool = False
    """True for weights that cannot be replaced: such a target refuses LoRAs."""

    def command(self, name: str) -> str:
        """The `engine-build compile` command that asks for this target."""
        parts = [f"engine-build compile {name} --backend {self.backend}"]
        parts.append(f"--gpu {self.compute_capability}")
        if self.precision is not None:
            parts.append(f"--precision {self.precision}")
        sizes = ",".join(f"{width}x{height}" for width, height in self.served.sizes)
        parts.append(f"--sizes {sizes} --max-batch {self.served.max_batch}")
        if self.fixed_weights:
            parts.append("--fixed-weights")
        return " ".join(parts)


def target_identity(manifest: Manifest, wanted: Wanted, backend_version: str) -> TargetIdentity:
    """The identity of the target that is wanted. Raises BuildError for what no package takes."""
    check_served(wanted.served, manifest)
    return TargetIdentity(
        backend=wanted.backend,
        backend_version=backend_version,
        compute_capability=wanted.compute_capability,
        engines={role: _engine(role, manifest, wanted) for role in manifest.roles},
    )


def takes_loras(role: str, manifest: Manifest) -> bool:
    """True where LoRAs of the package's family may change this role's weights."""
    family = family_named(manifest.family)
    adapted = ("denoiser", *family.text_roles)
    return family.facts(manifest).loras and role in adapted


def _engine(role: str, manifest: Manifest, wanted: Wanted) -> EngineIdentity:
    record = manifest.roles[role]
    refittable: tuple[str, ...] = ()
    if takes_loras(role, manifest) and not wanted.fixed_weights:
        matrices = [each for each in record.parameters.values() if each.replaceable]
        refittable = tuple(sorted(each.initializer for each in matrices))
    compiler = COMPILERS[wanted.backend]
    # A role that is in fp32 for its range alone loses nothing by TF32's shorter mantissa.
    tf32 = record.precision == "fp32" and wanted.precision != "fp32"
    return EngineIdentity(
        graph_sha256=graph_sha256(record, manifest),
        weights_sha256=weights_sha256(record, manifest),
        precision=_precision(record.precision, wanted.precision, narrows=compiler.narrows),
        profiles=profiles_of(role, manifest, wanted.served),
        refittable=refittable,
        flags=compiler.flags(refittable=bool(refittable), tf32=tf32),
    )


def _precision(usual: Precision, asked: Precision | None, *, narrows: bool) -> Precision:
    """A role that is in fp32 for its range stays there, unless its compiler looks at what fits."""
    if usual == "fp32":
        return "fp16" if narrows and asked != "fp32" else "fp32"
    return usual if asked is None else asked
