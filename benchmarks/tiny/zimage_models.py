"""A tiny random Z-Image Turbo of the real architecture, with a tokenizer like Qwen's.

Networks and vocabulary are small; the blocks, the names of the parameters, the chat template's
words and the files on disk are Z-Image's own.
"""

from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from benchmarks.tiny.byte_pairs import learn_merges
from benchmarks.tiny.flow_models import CHANNELS, flow_autoencoder
from benchmarks.tiny.models import CORPUS, randomise

TEXT_WIDTH = 16

MERGES = 500
"""More than the corpus has: its words are whole tokens, each with the space before it."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or not enable_thinking %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)


def zimage_pipeline() -> ZImagePipeline:
    """A tiny Z-Image in fp32: a grid of 16 pixels."""
    tokenizer = qwen_tokenizer()
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flow_autoencoder(),
        text_encoder=text_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def transformer() -> ZImageTransformer2DModel:
    """One layer of each kind, and one more of the main kind."""
    network = ZImageTransformer2DModel(
        in_channels=CHANNELS,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 128, 128],
    )
    return randomise(network, seed=300)


def text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3Model:
    """Three layers, so that the one before the last is not the embeddings."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return randomise(Qwen3Model(config), seed=301)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """A byte-level BPE laid out as Qwen's: bytes, merges, then the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [word for text in CORPUS for word, _ in splitter.pre_tokenize_str(text)]
    merges = learn_merges([tuple(word) for word in texts], MERGES)
    words = dict.fromkeys((*alphabet, *("".join(pair) for pair in merges)))
    tokenizer = Qwen2Tokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=merges,
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
        # As Qwen's own says; the pipeline fills up to 512 all the same.
        model_max_length=131072,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
