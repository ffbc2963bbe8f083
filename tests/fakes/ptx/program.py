"""A kernel of PTX, ready to run."""

from tests.fakes.ptx.operands import UnknownError
from tests.fakes.ptx.parse import Instruction, Kernel, PtxError, Symbol, kernels_of
from tests.fakes.ptx.steps import Step, step_of


class Program:
    """A kernel's instructions: each a step, or the number of that which comes next."""

    def __init__(self, kernel: Kernel) -> None:
        """Raises PtxError for an instruction that is not known here."""
        self.kernel = kernel
        self.end = len(kernel.instructions)
        self.steps: list[Step | int] = [self._step(each) for each in kernel.instructions]

        self.meetings = {
            i
            for i, each in enumerate(kernel.instructions)
            if each.code in ("bar.sync", "shfl.sync.bfly")
        }
        """The instructions that the threads of a block, or those of a warp, take together."""
        self.straight = list(range(self.end))
        """From each instruction, up to which all who are there go on together; itself: none."""
        for i in range(self.end - 2, -1, -1):
            if self._is_plain(i):
                self.straight[i] = self.straight[i + 1] if self._is_plain(i + 1) else i + 1

    def _step(self, instruction: Instruction) -> Step | int:
        match instruction.code, instruction.operands:
            case (("bra" | "bra.uni"), (Symbol(name),)) if name in self.kernel.labels:
                return self.kernel.labels[name]
            case "ret", ():
                return self.end
        try:
            return step_of(instruction, self.kernel)
        except UnknownError:
            raise PtxError(f"{self.kernel.name}: unknown here: {instruction.text}") from None

    def _is_plain(self, i: int) -> bool:
        return not (
            isinstance(self.steps[i], int)
            or i in self.meetings
            or self.kernel.instructions[i].guard
        )


def programs_of(text: str) -> dict[str, Program]:
    """The kernels of a module by name. Raises PtxError."""
    return {name: Program(kernel) for name, kernel in kernels_of(text).items()}
