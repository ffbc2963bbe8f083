"""Shortfalls: work that runs otherwise than it should."""

import pytest

from runtime.backends.device.shortfalls import Shortfalls


def test_a_sentence_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    shortfalls = Shortfalls()
    for _ in range(2):
        shortfalls.add("the denoiser is slow")
    shortfalls.add("so is the VAE")
    assert list(shortfalls) == ["the denoiser is slow", "so is the VAE"]
    assert caplog.text.count("the denoiser is slow") == 1
