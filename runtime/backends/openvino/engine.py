"""One network of a package, run by OpenVINO."""

from collections.abc import Mapping, Set
from concurrent.futures import Executor
from math import prod
from typing import Any

from runtime.backends.low_rank import Weights, merged
from runtime.backends.openvino.forms import Forms, most_single
from runtime.backends.openvino.library import Compiling, OpenVino, Request, Shapes
from runtime.backends.protocol import Array, Started
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, RoleRecord


class OpenVinoEngine:
    """A role's graph, open in OpenVINO.

    While weights are replaced, a second graph is run, in which weights are inputs: all matrices
    once one was replaced, all kernels once one was, and all vectors likewise. Nothing is compiled
    for a set of the same kinds; vectors are kept apart since a step is slower by a third where
    they are inputs. The first graph stays open with the package's own weights.
    """

    def __init__(
        self,
        library: OpenVino,
        package: ModelPackage,
        role: str,
        how: Compiling,
        beside: Executor,
        *,
        single_shapes: bool,
    ) -> None:
        """Read the role's graph. `beside` compiles while calls run; with `single_shapes` there are
        forms for them, where their weights have room.

        Raises BackendError.
        """
        record = package.manifest.roles[role]
        self._library = library
        self._role = role
        self._parameters = record.parameters.values()
        self._how = how
        self._beside = beside
        self._most = most_single(_fp32_bytes(record)) if single_shapes else 0
        self._model = library.read(package.file(record.graph))
        self._own = self._forms(self._model, ahead=True)
        self._adaptable: Forms | None = None
        self._values: dict[str, Any] = {}
        """The package's own values of the inputs of `_adaptable`, as the vendor's tensors."""
        self._replaced: dict[str, Any] = {}
        """The values of these inputs in every call; empty where nothing is replaced."""

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Run at once, on the cores that all engines share. Raises BackendError."""
        outputs = self.run(inputs)
        return lambda: outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, named arrays out. Raises BackendError."""
        forms = self._adaptable if self._replaced and self._adaptable else self._own
        try:
            return forms.run(inputs, self._replaced)
        except BackendError as error:
            raise BackendError(f"{self._role}: {error}") from error

    def replace_weights(self, weights: Weights) -> None:
        """Pass `weights` with every call from now on. A new kind opens another graph.

        Raises BackendError.
        """
        if not weights.keys() <= self._values.keys():
            self._adaptable, self._replaced = None, {}
            names = self._of_the_kinds_of(weights.keys() | self._values.keys())
            model, self._values = self._library.with_inputs(self._model, names)
            if unknown := weights.keys() - self._values.keys():
                raise BackendError(f"{self._role}: OpenVINO's graph has no weight {min(unknown)}")
            self._adaptable = self._forms(model, ahead=False)
        tensors = {name: self._library.tensor(merged(each)) for name, each in weights.items()}
        self._replaced = {**self._values, **tensors} if tensors else {}

    def close(self) -> None:
        """Give the memory of both graphs back, once nothing is compiled any more."""
        for forms in (self._own, self._adaptable):
            if forms is not None:
                forms.close()
        del self._own, self._model
        self._adaptable, self._values, self._replaced = None, {}, {}

    def _of_the_kinds_of(self, names: Set[str]) -> set[str]:
        """All weights of the role that have as many axes as one of these."""
        axes = {each.initializer: len(each.shape) for each in self._parameters}
        kinds = {axes.get(name) for name in names}
        return {name for name, count in axes.items() if count in kinds}

    def _forms(self, model: Any, *, ahead: bool) -> Forms:
        def compile_form(shapes: Shapes | None) -> Request:
            return self._library.compile(model, self._how, shapes)

        try:
            return Forms(compile_form, self._beside, self._most, ahead=ahead)
        except BackendError as error:
            raise BackendError(f"{self._role}: {error}") from error


def _fp32_bytes(record: RoleRecord) -> int:
    return sum(4 * prod(each.shape) for each in record.parameters.values())
