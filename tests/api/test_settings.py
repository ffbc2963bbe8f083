"""Settings: flags over environment over defaults, and every refusal by name."""

from pathlib import Path

import pytest

from api.cli import main
from api.settings import Settings, SettingsError, origin, read_settings, variable
from runtime.jobs.bounds import Retention
from runtime.wire.options import WorkerOptions


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_the_defaults_are_those_of_the_guide() -> None:
    settings = read_settings({})
    assert (settings.model, settings.engines, settings.data) == (
        "demo",
        Path("engines"),
        Path("data"),
    )
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALOTYPE_PORT", "9000")
    monkeypatch.setenv("CALOTYPE_HOST", "0.0.0.0")
    flags = {"port": "9001"}
    settings = read_settings(flags)
    assert (settings.port, settings.host, settings.model) == (9001, "0.0.0.0", "demo")
    assert origin("port", flags) == "--port"
    assert origin("host", flags) == "CALOTYPE_HOST"
    assert origin("model", flags) == "default"


def test_every_setting_can_be_set_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "CALOTYPE_MODEL": "other",
        "CALOTYPE_ENGINES": "packages",
        "CALOTYPE_DATA": "elsewhere",
        "CALOTYPE_BROKER": "nats://one:4222,nats://two:4222",
        "CALOTYPE_BROKER_STREAM": "pictures",
        "CALOTYPE_BROKER_REPLICAS": "3",
        "CALOTYPE_BACKEND": "onnxruntime-cpu",
        "CALOTYPE_CPU_PRECISION": "bf16",
        "CALOTYPE_COMPILE": "True",
        "CALOTYPE_GPUS": "0,2",
        "CALOTYPE_WORKERS": "3",
        "CALOTYPE_HOST": "::1",
        "CALOTYPE_PORT": "0",
        "CALOTYPE_ALLOWED_HOSTS": "pictures.example,*.example.org",
        "CALOTYPE_ALLOWED_ORIGINS": "https://app.example",
        "CALOTYPE_TRUST_FORWARDED_HOST": "True",
        "CALOTYPE_MAX_CONNECTIONS": "500",
        "CALOTYPE_REQUEST_SECONDS": "10.0",
        "CALOTYPE_KEYS": "True",
        "CALOTYPE_NO_KEYS": "False",
        "CALOTYPE_A1111_API": "False",
        "CALOTYPE_VERIFY_FILES": "True",
        "CALOTYPE_MAX_BATCH": "2",
        "CALOTYPE_NO_CUDA_GRAPHS": "True",
        "CALOTYPE_LORA_MEMORY_MB": "64",
        "CALOTYPE_PROMPT_MEMORY_MB": "32",
        "CALOTYPE_DRAW_MEMORY_MB": "2000",
        "CALOTYPE_MODEL_MEMORY_MB": "9000",
        "CALOTYPE_TEXT_ENCODERS": "aside",
        "CALOTYPE_VAE_TILE": "512",
        "CALOTYPE_DISK_RESERVE_MB": "64",
        "CALOTYPE_KEEP_JOBS_DAYS": "7.0",
        "CALOTYPE_KEEP_JOBS": "0",
        "CALOTYPE_KEEP_PICTURES_DAYS": "90.0",
        "CALOTYPE_KEEP_PICTURES": "50000",
        "CALOTYPE_KEEP_PICTURES_MB": "1000",
        "CALOTYPE_QUEUE_LIMIT": "5",
        "CALOTYPE_PICTURES_PER_MINUTE": "10",
        "CALOTYPE_STREAMS_PER_CALLER": "20",
        "CALOTYPE_TRUST_FORWARDED_FOR": "True",
        "CALOTYPE_LEASE_SECONDS": "1.5",
        "CALOTYPE_STALL_SECONDS": "20.0",
        "CALOTYPE_LOAD_SECONDS": "60.0",
        "CALOTYPE_MAX_ATTEMPTS": "1",
        "CALOTYPE_LOG_FORMAT": "json",
        "CALOTYPE_LOG_LEVEL": "warning",
        "CALOTYPE_ACCESS_LOG": "True",
        "CALOTYPE_PAGE": "False",
        "CALOTYPE_OPENAI_API": "False",
        "CALOTYPE_CANCEL_ON_DISCONNECT": "True",
    }
    assert set(given) == {variable(name) for name in Settings.model_fields}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = read_settings({})
    read = settings.model_dump()
    assert {variable(name): str(value) for name, value in read.items()} == given
    assert settings.retention == Retention(7.0, 0, 90.0, 50_000, 1000 * 2**20)
    options = settings.worker
    assert options.draw.vae_tile == 512
    assert options.draw.memory_bytes == 2000 * 2**20
    assert WorkerOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CALOTYPE_PORT", "http", "a valid integer"),
        ("CALOTYPE_PORT", "", "a valid integer"),
        ("CALOTYPE_PORT", "70000", "less than or equal to 65535"),
        ("CALOTYPE_MODEL", "", "a valid string"),
        ("CALOTYPE_BACKEND", "cuda", "'openvino-cpu' or 'onnxruntime-cpu'"),
        ("CALOTYPE_ALLOWED_HOSTS", "a.example,http://b", "'http://b' is no name of a host"),
        ("CALOTYPE_ALLOWED_ORIGINS", "app.example", "'app.example' is no origin, such as https"),
        ("CALOTYPE_GPUS", "0,x", "expected all, or different numbers such as 0,2"),
        ("CALOTYPE_WORKERS", "-1", "greater than or equal to 0"),
        ("CALOTYPE_BROKER", "one:4222", "string should match pattern"),
        ("CALOTYPE_BROKER_STREAM", "a.b", "string should match pattern"),
        ("CALOTYPE_MAX_BATCH", "0", "greater than or equal to 1"),
        ("CALOTYPE_LORA_MEMORY_MB", "-1", "greater than or equal to 0"),
        ("CALOTYPE_DRAW_MEMORY_MB", "0", "greater than or equal to 64"),
        ("CALOTYPE_TEXT_ENCODERS", "gone", "'auto', 'keep', 'aside' or 'cpu'"),
        ("CALOTYPE_VAE_TILE", "500", "expected auto, off, or a multiple of 8 pixels from 128 on"),
        ("CALOTYPE_KEEP_PICTURES", "0", "greater than or equal to 1"),
        ("CALOTYPE_QUEUE_LIMIT", "1.5", "a valid integer"),
        ("CALOTYPE_LEASE_SECONDS", "nan", "a finite number"),
        ("CALOTYPE_LEASE_SECONDS", "0", "greater than 0"),
        ("CALOTYPE_MAX_ATTEMPTS", "-1", "greater than or equal to 1"),
        ("CALOTYPE_LOG_FORMAT", "xml", "'auto', 'console' or 'json'"),
        ("CALOTYPE_LOG_LEVEL", "INFO", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_that_it_was_given(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        read_settings({})
    assert str(refusal.value).startswith(f"{name}={value}: ")
    assert expected in str(refusal.value)


def test_an_unknown_name_is_refused_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALOTYPE_PROT", "9000")
    for command in ("config", "serve"):
        assert main([command]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("calotype: CALOTYPE_PROT: unknown setting")
        assert all(variable(name) in line for name in Settings.model_fields)


def test_the_cache_of_engine_build_is_no_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALOTYPE_CACHE", "/elsewhere")
    assert read_settings({}).port == 8000


def test_config_prints_every_setting_with_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALOTYPE_MODEL", "other")
    assert main(["config", "--queue-limit", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "CALOTYPE_MODEL=other  # CALOTYPE_MODEL" in lines
    assert "CALOTYPE_QUEUE_LIMIT=7  # --queue-limit" in lines
    assert "CALOTYPE_PORT=8000  # default" in lines
    assert len(lines) == len(Settings.model_fields)


def test_what_config_prints_is_an_environment_that_serves_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"port": "9", "lease_seconds": "2", "compile": "true"}
    main(["config", "--port", "9", "--lease-seconds", "2", "--compile"])
    for line in capsys.readouterr().out.splitlines():
        name, _, value = line.partition("  #")[0].partition("=")
        monkeypatch.setenv(name, value)
    assert read_settings({}) == read_settings(flags)


def test_the_help_says_what_a_value_is_and_what_serves_meanwhile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "aside: opened for each new prompt, which waits for that" in shown
    for words in (
        "--engines DIR",
        "--max-batch N ",
        "--keep-pictures N ",
        "--lora-memory-mb MB",
        "what auto takes",
    ):
        assert words in shown
    assert "Example: calotype serve" in shown


@pytest.mark.parametrize("flag", ["--port=x", "--max-batch=0", "--model="])
def test_a_wrong_flag_is_one_line_and_exit_code_2(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", flag]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"calotype: {flag.partition('=')[0]}=")
