import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from runtime.errors import PackageError
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec

LENGTH = 12
BYTES = 256
CAT, BOS, EOS = 2 * BYTES + 1, 2 * BYTES + 2, 2 * BYTES + 3
SPEC = TokenizerSpec(begin=BOS, end=EOS, pad=EOS, max_length=LENGTH)


def clip_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's tokenizer over single bytes and the one word "cat"."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "ca", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[("c", "a"), ("ca", "t</w>")],
        pad_token=pad_token,
        model_max_length=LENGTH,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file after a call that made transformers store truncation and padding in it."""
    clip = clip_tokenizer()
    clip("a cat", padding="max_length", truncation=True, max_length=LENGTH)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    clip.backend_tokenizer.save(str(path))
    stored = json.loads(path.read_text())
    assert stored["truncation"]["max_length"] == LENGTH
    assert stored["padding"]["strategy"] == {"Fixed": LENGTH}
    assert stored["post_processor"]["sep"] == ["<|endoftext|>", EOS]
    return path


def test_ids_are_those_of_the_text_alone(saved: Path) -> None:
    tokenizer = PromptTokenizer.load(saved, SPEC)
    assert tokenizer.spec == SPEC
    assert tokenizer.ids("") == []
    assert tokenizer.ids("Cat  \n CAT") == [CAT, CAT]
    assert tokenizer.ids("<|startoftext|>cat") == [BOS, CAT]


def test_tokens_say_which_characters_they_are_made_of(saved: Path) -> None:
    tokenizer = PromptTokenizer.load(saved, SPEC)
    assert tokenizer.located("") == []
    text = "Cat  \n CAT<|startoftext|>"
    located = tokenizer.located(text)
    assert [token for token, _ in located] == tokenizer.ids(text)
    assert [text[place] for _, place in located] == ["Cat", "CAT", "<|startoftext|>"]


def test_neither_truncation_nor_padding_of_the_file_acts(saved: Path) -> None:
    tokenizer = PromptTokenizer.load(saved, SPEC)
    assert tokenizer.ids("cat " * 1000) == [CAT] * 1000


@pytest.mark.parametrize("pad_token", ["<|endoftext|>", "!"])
@pytest.mark.parametrize(
    "text", ["a cat, wow!", "!!", "don't stop: 1234", "Ünïcode 😀 猫", "<|endoftext|> x", " \t\n"]
)
def test_ids_equal_those_of_transformers(tmp_path: Path, pad_token: str, text: str) -> None:
    clip = clip_tokenizer(pad_token)
    path = tmp_path / "tokenizer.json"
    clip.backend_tokenizer.save(str(path))
    tokenizer = PromptTokenizer.load(path, SPEC)
    assert tokenizer.ids(text) == clip(text, add_special_tokens=False).input_ids


def test_threads_share_a_tokenizer(saved: Path) -> None:
    tokenizer = PromptTokenizer.load(saved, SPEC)
    texts = [f"cat number {number} " * 20 for number in range(50)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(tokenizer.ids, texts))
    assert found == [PromptTokenizer.load(saved, SPEC).ids(text) for text in texts]


@pytest.mark.parametrize("content", [None, "", "{}", "no JSON", '{"model": {"type": "Unknown"}}'])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PackageError, match=r"tokenizer\.json: expected a tokenizer") as caught:
        PromptTokenizer.load(path, SPEC)
    assert caught.value.__cause__ is not None


def test_a_file_at_which_the_librarys_rust_panics_is_refused_by_name(
    saved: Path, tmp_path: Path
) -> None:
    content = json.loads(saved.read_bytes())
    content["model"]["continuing_subword_prefix"] = "longer than any token"
    content["model"]["merges"] = [["a", "b"]]
    content["model"]["vocab"] |= {"a": 0, "b": 1, "ab": 2}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PackageError, match=r"tokenizer\.json: expected a tokenizer .* range"):
        PromptTokenizer.load(path, SPEC)


def test_a_vocabulary_without_its_unknown_token_is_told(saved: Path, tmp_path: Path) -> None:
    """The library notices at the first text that it has no token for."""
    content = json.loads(saved.read_bytes())
    content["model"] |= {"vocab": {"<s>": 0, "</s>": 1}, "merges": [], "unk_token": "<gone>"}
    content["added_tokens"], content["post_processor"] = [], None
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    spec = TokenizerSpec(begin=0, end=1, pad=1, max_length=LENGTH)
    with pytest.raises(PackageError, match=r"cannot read 'a 猫': Unk token .*; build the package"):
        PromptTokenizer.load(path, spec).ids("a 猫")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TokenizerSpec(begin=9999, end=EOS, pad=EOS, max_length=LENGTH), "begin is token 9999"),
        (TokenizerSpec(begin=BOS, end=EOS + 1, pad=EOS, max_length=LENGTH), "end is token 516"),
        (TokenizerSpec(begin=BOS, end=EOS, pad=-1, max_length=LENGTH), "pad is token -1"),
        (TokenizerSpec(begin=BOS, end=EOS, pad=EOS, max_length=2), "max_length is 2, expected at"),
    ],
)
def test_a_spec_that_does_not_fit_the_file_is_refused(
    saved: Path, spec: TokenizerSpec, message: str
) -> None:
    with pytest.raises(PackageError, match=message):
        PromptTokenizer.load(saved, spec)
