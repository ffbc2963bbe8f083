"""Reads a tokenizer of the source for the package."""

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from engine_build.package.export.role import TokenizerExport
from runtime.errors import SourceError, in_one_line, of_a_library
from runtime.package.manifest import TokenizerRecord


def load_tokenizer(tokenizer: TokenizerExport) -> tuple[Tokenizer, TokenizerRecord]:
    """A tokenizer of the source, and its record: the ids that frame a prompt. Raises
    SourceError."""
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer.path, local_files_only=True)
    except BaseException as error:
        if not of_a_library(error):  # transformers, tokenizers or json: no base but this
            raise
        said = in_one_line(error)
        raise SourceError(f"{tokenizer.path}: the tokenizer cannot be read: {said:.200}") from error
    ids = {"eos_token": loaded.eos_token_id, "pad_token": loaded.pad_token_id}
    if tokenizer.begins:
        ids["bos_token"] = loaded.bos_token_id
    missing = [name for name, value in ids.items() if value is None]
    if missing:
        raise SourceError(f"{tokenizer.path}: the tokenizer has no {' and no '.join(missing)}")
    record = TokenizerRecord(
        file=f"{tokenizer.name}.json",
        begin=ids.get("bos_token"),
        end=ids["eos_token"],
        pad=ids["pad_token"],
        max_length=tokenizer.max_length,
    )
    return loaded.backend_tokenizer, record
