"""Counts of a configuration that its weights cannot have."""

from pathlib import Path
from typing import Any

import pytest

from engine_build.checkpoint.counts import check_counts
from runtime.errors import SourceError

PATH = Path("unet/config.json")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_layers": 10**9}, "num_layers is 1000000000, and the weights have 40 tensors; mend"),
        ({"num_hidden_layers": 41}, "num_hidden_layers is 41, and the weights have 40"),
        ({"num_single_layers": 41}, "num_single_layers is 41"),
        ({"n_refiner_layers": 41}, "n_refiner_layers is 41"),
        ({"approximator_layers": 41}, "approximator_layers is 41"),
        ({"layers_per_block": [2, 10**9]}, "layers_per_block is 1000000000"),
        ({"transformer_layers_per_block": [1, 41]}, "transformer_layers_per_block is 41"),
        ({"num_decoder_blocks": [41]}, "num_decoder_blocks is 41"),
        ({"text_config": {"num_hidden_layers": 41}}, "num_hidden_layers is 41"),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings is 1000000000, expected at"),
        (
            {"block_out_channels": [320, 10**300]},
            r"block_out_channels is 1000.*\.\.\., expected at",
        ),
        ({"vocab_size": -(10**9)}, "vocab_size is -1000000000, expected a number of layers or"),
        ({"sample_size": -(10**9)}, "sample_size is -1000000000, expected at most 16777216"),
        ({"in_channels": "4"}, "in_channels is '4', expected a number of layers or rows"),
        ({"vocab_size": True}, "vocab_size is True, expected a number"),
        ({"hidden_size": 0}, "hidden_size is 0, expected a number"),
        ({"block_out_channels": 320}, "block_out_channels is 320, expected a list of integers"),
        ({"block_out_channels": []}, r"block_out_channels is \[\], expected a list of integers"),
        ({"axes_dims": [1, "2"]}, r"axes_dims is \[1, '2'\], expected a list of integers"),
        ({"down_block_types": ["DownBlock2D"] * 41}, "down_block_types has 41 entries, and the w"),
    ],
)
def test_an_absurd_count_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=f"unet/config.json: {message}"):
        check_counts(PATH, config, 40)


def test_counts_of_published_networks_are_taken() -> None:
    config = {
        "num_layers": 40,
        "vocab_size": 262_144,
        "rope_theta": 10**9,
        "use_cache": True,
        "layers_per_block": [2, 2],
        "num_attention_heads": 64,
        "scaling_factor": 1e30,
    }
    check_counts(PATH, config, 40)
