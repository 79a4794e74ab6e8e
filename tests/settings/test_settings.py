"""What the DANLU_* variables do."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from settings import Settings, what_is_wrong


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("DANLU_"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = Settings()
    assert settings.home.name == "danlu"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.start_method == "auto"
    assert settings.predict_device == "auto"
    assert settings.max_image_bytes == 25_000_000
    assert settings.max_files == 64
    assert settings.predict_timeout_seconds == 30
    assert (settings.parent_fd, settings.listen_fd) == (None, None)


@pytest.mark.parametrize(
    ("device", "share"), [("auto", 0.125), ("cuda:1", 0.125), ("cpu", 0), ("mps", 0)]
)
def test_jobs_leave_memory_of_a_gpu_to_predictions_that_may_use_it(
    device: str, share: float
) -> None:
    assert Settings(predict_device=device).gpu_share_of_predictions == share


def test_everything_lies_in_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.datasets == tmp_path / "datasets"
    assert settings.checkpoints == tmp_path / "checkpoints"
    assert settings.runs == tmp_path / "runs"
    assert settings.cache == tmp_path / "cache"
    assert settings.database == f"sqlite:///{tmp_path}/danlu.sqlite3"


def test_data_sets_and_database_may_lie_elsewhere(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, datasets_dir=tmp_path / "own", database_url="postgresql://db/danlu"
    )
    assert settings.datasets == tmp_path / "own"
    assert settings.database == "postgresql://db/danlu"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("DANLU_HOME", "/srv/丹炉", "home", Path("/srv/丹炉")),
        ("DANLU_DATASETS_DIR", "/data", "datasets", Path("/data")),
        ("DANLU_DATABASE_URL", "postgresql://db/danlu", "database", "postgresql://db/danlu"),
        ("DANLU_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("DANLU_PORT", "0", "port", 0),
        ("danlu_port", "9000", "port", 9000),
        ("DANLU_START_METHOD", "spawn", "start_method", "spawn"),
        ("DANLU_MAX_FILES", "2", "max_files", 2),
        ("DANLU_PREDICT_TIMEOUT_SECONDS", "0.5", "predict_timeout_seconds", 0.5),
        ("DANLU_PREDICT_PRELOAD", "production, beta", "predict_preload", ("production", "beta")),
        ("DANLU_PREDICT_MEMORY_MB", "500", "predict_memory_mb", 500),
        ("DANLU_LOG_LEVEL", "debug", "log_level", "debug"),
        ("DANLU_PARENT_FD", "7", "parent_fd", 7),
        ("DANLU_ALLOWED_HOSTS", "lab, .example.org,", "allowed_hosts", ("lab", ".example.org")),
        (
            *("DANLU_CORS_ORIGINS", "https://Shop.Example/,http://a:80"),
            *("cors_origins", ("https://shop.example", "http://a:80")),
        ),
        ("DANLU_CORS_ORIGINS", "*", "cors_origins", ("*",)),
        ("DANLU_ROOT_PATH", "/lab/danlu/", "root_path", "/lab/danlu"),
        ("DANLU_MIRROR", "http://lab:80", "mirror", ("http://lab:80/",)),
        (
            *("DANLU_MIRROR", "https://lin:pw@a.example/danlu/,http://b/~x"),
            *("mirror", ("https://lin:pw@a.example/danlu/", "http://b/~x/")),
        ),
    ],
)
def test_variables(
    variable: str, text: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), field) == value


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_is_as_good_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DANLU_{name.upper()}", "")  # as `${VAR:-}` of a compose file gives it
    assert Settings() == Settings.model_validate({})
    assert getattr(Settings(), name) == Settings.model_fields[name].get_default(
        call_default_factory=True
    )


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DANLU_PORT", "-1"),
        ("DANLU_PORT", "65536"),
        ("DANLU_PORT", "http"),
        ("DANLU_START_METHOD", "fork"),
        ("DANLU_MAX_FILES", "0"),
        ("DANLU_MAX_IMAGE_BYTES", "25MB"),
        ("DANLU_PREDICT_TIMEOUT_SECONDS", "0"),
        ("DANLU_LOG_LEVEL", "loud"),
        ("DANLU_MIRROR", "lab"),
        ("DANLU_MIRROR", "/mnt/lab"),
        ("DANLU_MIRROR", "http://"),
        ("DANLU_MIRROR", "http://a/,ftp://b/"),
        ("DANLU_MIRROR", "http://a/?key=1"),
    ],
)
def test_wrong_values_are_refused(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValidationError):
        Settings()


def test_the_key_is_in_a_variable_or_in_a_file_or_the_same_in_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def key() -> str | None:
        found = Settings().api_key
        return found.get_secret_value() if found else None

    file = tmp_path / "key"
    file.write_text("hush\n")
    assert key() is None

    monkeypatch.setenv("DANLU_API_KEY", "loud")
    assert key() == "loud"

    monkeypatch.setenv("DANLU_API_KEY_FILE", str(file))
    with pytest.raises(ValidationError, match="differ"):
        Settings()

    monkeypatch.setenv("DANLU_API_KEY", "hush")
    assert key() == "hush"

    monkeypatch.delenv("DANLU_API_KEY")
    assert key() == "hush"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DANLU_API_KEY": "two words"}, "DANLU_API_KEY: a key is one word"),
        ({"DANLU_API_KEY": "丹炉"}, "DANLU_API_KEY: a key is one word"),
        ({"DANLU_API_KEY": " "}, "DANLU_API_KEY: a key is one word"),
        ({"DANLU_API_KEY_FILE": "/no/such/file"}, "cannot be read: No such file"),
        ({"DANLU_API_KEY_FILE": "/dev/null"}, "is empty"),
        ({"DANLU_API_KEY_FILE": "/"}, "cannot be read"),
        ({"DANLU_API_KEY": "hush", "DANLU_NO_AUTH": "true"}, "DANLU_NO_AUTH says"),
        ({"DANLU_CORS_ORIGINS": "http://shop.example/path"}, "'http://shop.example/path'"),
        ({"DANLU_CORS_ORIGINS": "null"}, "DANLU_CORS_ORIGINS: 'null'"),
        ({"DANLU_ROOT_PATH": "danlu"}, "DANLU_ROOT_PATH: 'danlu' is no path"),
        ({"DANLU_PORT": "9000 hush"}, "DANLU_PORT: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)

    with pytest.raises(ValidationError) as caught:
        Settings()

    line = what_is_wrong(caught.value)
    assert said in line
    assert line.count("\n") == 1
    for secret in ("hush", "two words"):
        assert secret not in line + str(caught.value)


def test_a_key_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")

    with pytest.raises(ValidationError, match="is no text"):
        Settings(api_key_file=tmp_path / "key")


def test_what_is_said_comes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_PORT", "9000")
    assert Settings(port=9001).port == 9001


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
