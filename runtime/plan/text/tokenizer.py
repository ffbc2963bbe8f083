"""A package's tokenizer without transformers: text to token ids, and the ids that frame a prompt.

chunks.py makes an encoder's input of the ids.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from tokenizers import Tokenizer

from runtime.errors import PackageError, in_one_line, of_a_library, quoted
from runtime.plan.text.words import Words, split


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """The ids that begin, end and fill an encoder's input, and its length in tokens."""

    begin: int | None
    """None for an encoder without a begin token, such as T5."""
    end: int
    pad: int
    max_length: int

    @property
    def room(self) -> int:
        """Number of text tokens in an input, without its begin and end."""
        return self.max_length - (1 if self.begin is None else 2)


class PromptTokenizer:
    """Token ids of a text, and of nothing but the text. Made by `load`; threads may share one."""

    def __init__(
        self, tokenizer: Tokenizer, spec: TokenizerSpec, words: Words = MappingProxyType({})
    ) -> None:
        self._tokenizer = tokenizer
        self._words = words
        self.spec = spec

    @classmethod
    def load(cls, path: Path, spec: TokenizerSpec) -> Self:
        """Read the file that transformers' `backend_tokenizer.save` writes.

        Raises PackageError for a file that cannot be read, and for a spec that does not fit it.
        """
        with _saying(f"{path}: expected a tokenizer of the tokenizers library, and it says"):
            tokenizer = Tokenizer.from_file(str(path))
        # The file keeps whatever its last call in transformers set, and both would act on us.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        _check(path, tokenizer, spec)
        return cls(tokenizer, spec)

    def knowing(self, words: Words) -> "PromptTokenizer":
        """This tokenizer with words that have tokens of their own."""
        return PromptTokenizer(self._tokenizer, self.spec, words)

    def units(self, text: str) -> Iterator[tuple[int, ...]]:
        """The text's token ids as `ids` has them, each alone, but for those of a word: they must
        stay in one chunk."""
        for piece in split(text, self._words):
            if isinstance(piece, str):
                yield from ((token,) for token in self.ids(piece))
            else:
                yield piece

    def ids(self, text: str) -> list[int]:
        """The text's token ids, of any number, with nothing put before or after them.

        The spelling of a special token is that token, as in transformers. The text must be
        Unicode without lone surrogates. Raises PackageError for a tokenizer whose vocabulary lacks
        the token that its model falls back on.
        """
        return [token for token, _ in self.located(text)]

    def located(self, text: str) -> list[tuple[int, slice]]:
        """The text's token ids as `ids` has them, and the characters that each is made of.

        Tokens may share a character; a slice may hold the space before its word, or be empty.
        """
        # Encoding changes nothing in the tokenizer, so no lock is needed.
        with _saying(f"the tokenizer cannot read {quoted(text)}"):
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        places = [slice(start, end) for start, end in encoding.offsets]
        return list(zip(encoding.ids, places, strict=True))


@contextmanager
def _saying(sentence: str) -> Iterator[None]:
    """Turn what the library raises into a PackageError: the sentence, then the library's words."""
    try:
        yield
    except BaseException as error:
        if not of_a_library(error):  # which raises nothing more exact
            raise
        said = in_one_line(error)
        raise PackageError(f"{sentence}: {said:.200}; build the package again") from error


def _check(path: Path, tokenizer: Tokenizer, spec: TokenizerSpec) -> None:
    for name, token in (("begin", spec.begin), ("end", spec.end), ("pad", spec.pad)):
        if token is None:
            continue
        if token < 0 or tokenizer.id_to_token(token) is None:
            raise PackageError(
                f"{path}: {name} is token {token}, which the tokenizer does not have "
                f"(it has {tokenizer.get_vocab_size()}); build the package again"
            )
    if spec.max_length < 3:
        raise PackageError(
            f"{path}: max_length is {spec.max_length}, expected at least 3 (begin, one token, "
            "end); build the package again"
        )
