"""One frozen record of everything that can be set from outside. docs/settings.md describes each."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# In one variable, with commas between.
Words = Annotated[tuple[str, ...], NoDecode]

# What a header can carry as one word.
_KEY = re.compile(r"[\x21-\x7e]+")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_MIRROR = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
_ORIGIN = re.compile(r"https?://[^/?#\s@]+")


class Settings(BaseSettings):
    """All settings. Each is the variable of the same name with `DANLU_` in front."""

    model_config = SettingsConfigDict(
        env_prefix="DANLU_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a wrong value may be a secret
    )

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("danlu"),
        description="Folder of everything that danlu keeps: database, checkpoints, runs, cache.",
    )
    datasets_dir: Path | None = Field(
        default=None, description="Folder of the data sets. Default: `datasets` in the home."
    )
    database_url: str | None = Field(
        default=None,
        repr=False,  # it may carry a password
        description="SQLAlchemy URL. Default: `danlu.sqlite3` in the home.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the server listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    root_path: str = Field(
        default="/",
        description="Path below which a proxy shows the server, such as `/danlu`.",
    )
    no_auth: bool = Field(
        default=False, description="Listen where others can reach the server, without any key."
    )
    api_key_file: Path | None = Field(
        default=None, description="File that holds the key, in place of `DANLU_API_KEY`."
    )
    api_key: SecretStr | None = Field(
        default=None,
        validate_default=True,  # read from the file, then
        description="Key that every request must carry. Default: none is asked for.",
    )
    allowed_hosts: Words = Field(
        default=(),
        description="More names by which the server may be called, with commas between; "
        "`*` for any.",
    )
    cors_origins: Words = Field(
        default=(),
        description="Origins of web pages that may use the server, with commas between.",
    )
    mirror: Words = Field(
        default=(),
        repr=False,  # they may carry a password
        description="Addresses that data sets and weights are downloaded from before all others, "
        "with commas between.",
    )
    max_queued_per_owner: int = Field(
        default=1000, ge=1, description="Jobs that one owner may have in the queue."
    )
    jobs_per_device: int = Field(
        default=1, ge=1, le=64, description="Jobs that train at the same time on one device."
    )
    start_method: Literal["auto", "forkserver", "spawn"] = Field(
        default="auto",
        description="How processes that train or predict start. auto: forkserver on Linux, spawn "
        "elsewhere.",
    )
    predict_device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="Device that predictions are computed on: cpu, cuda, cuda:1, mps. auto: a GPU "
        "that no job holds, else the CPU.",
    )
    predict_precision: Literal["auto", "fp32", "bf16"] = Field(
        default="fp32",
        description="fp32: as models are judged. auto: bf16 where the device computes so natively "
        "and the job has proved that its model's labels stay the same.",
    )
    predict_processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that compute predictions on the CPU; 0: one for each core, up to 4.",
    )
    predict_memory_mb: int = Field(
        default=0,
        ge=0,
        description="Weights of models that stay loaded, together; 0: a quarter of the memory.",
    )
    predict_gpu_share: float = Field(
        default=0.125,
        ge=0,
        le=0.9,
        description="Of a GPU's memory what predictions take at most, which jobs leave to them; 0: "
        "nothing is left to them, and they take what is free. Not where predictions are computed "
        "on the CPU alone.",
    )
    predict_idle_seconds: float = Field(
        default=3600.0, gt=0, description="A model that nobody asks for so long is unloaded."
    )
    predict_queue: int = Field(
        default=256, ge=1, description="Predictions that may wait; more are answered with 429."
    )
    predict_preload: Words = Field(
        default=("*",),
        description="Aliases whose models are loaded when the server starts, with commas between; "
        "`*`: all of them.",
    )
    max_image_bytes: int = Field(
        default=25_000_000, ge=1, description="Largest image in a request."
    )
    max_files: int = Field(default=64, ge=1, description="Most images in one request.")
    max_body_bytes: int = Field(
        default=1_000_000,
        ge=1,
        description="Largest body of a request that carries no image, archive or weights.",
    )
    max_upload_bytes: int = Field(
        default=100_000_000_000, ge=1, description="Largest archive of a data set."
    )
    max_model_bytes: int = Field(
        default=4_000_000_000, ge=1, description="Largest file of weights that is imported."
    )
    predict_timeout_seconds: float = Field(
        default=30.0, gt=0, description="A prediction that takes longer is answered with 504."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much the programs write to stderr."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="text: lines for people. json: one object per line."
    )
    parent_fd: int | None = Field(
        default=None, description="Set by `danlu serve`: a pipe that closes when it ends."
    )
    listen_fd: int | None = Field(
        default=None, description="Set by `danlu serve`: the socket to listen on."
    )

    @property
    def gpu_share_of_predictions(self) -> float:
        """What jobs leave them of each GPU's memory: nothing where they never use one."""
        return 0.0 if self.predict_device in ("cpu", "mps") else self.predict_gpu_share

    @field_validator("home", "datasets_dir", "api_key_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """A home is the same folder wherever a program was started."""
        return None if value is None else value.expanduser().absolute()

    @field_validator("allowed_hosts", "cors_origins", "mirror", "predict_preload", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())

    @field_validator("root_path")
    @classmethod
    def _without_last_slash(cls, value: str) -> str:
        path = value.rstrip("/")
        if not _PATH.fullmatch(path):
            raise ValueError(f"{value!r} is no path; one looks like /danlu")
        return path or "/"

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers send them: without a slash at the end, in small letters."""
        origins = tuple(origin.rstrip("/").lower() for origin in value)
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; one looks like https://shop.example")
        return origins

    @field_validator("mirror")
    @classmethod
    def _mirrors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """With a slash at the end. What is wrong is not shown: there may be a password in it."""
        if not all(_MIRROR.fullmatch(address) for address in value):
            raise ValueError("a mirror looks like https://files.example/danlu, without ? and #")
        return tuple(address.rstrip("/") + "/" for address in value)

    @field_validator("api_key")
    @classmethod
    def _key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """The key, wherever it comes from."""
        file: Path | None = info.data.get("api_key_file")
        key = value.get_secret_value().strip() if value else None
        if file is not None:
            held = _read_key(file)
            if key not in (None, held):
                raise ValueError("DANLU_API_KEY and DANLU_API_KEY_FILE differ; set only one")
            key = held
        if key is None:
            return None
        if not _KEY.fullmatch(key):
            raise ValueError("a key is one word of ASCII letters, digits and signs")
        if info.data.get("no_auth"):
            raise ValueError("there is a key, and DANLU_NO_AUTH says that none is asked for")
        return SecretStr(key)

    @property
    def datasets(self) -> Path:
        """Folder of the data sets."""
        return self.datasets_dir or self.home / "datasets"

    @property
    def database(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{self.home / 'danlu.sqlite3'}"

    @property
    def checkpoints(self) -> Path:
        """Folder with one folder per checkpoint."""
        return self.home / "checkpoints"

    @property
    def weights(self) -> Path:
        """Folder of pretrained weights: what is not there is downloaded into it."""
        return self.home / "weights"

    @property
    def runs(self) -> Path:
        """Folder with one folder per job: process.json, exit.json, log.txt."""
        return self.home / "runs"

    @property
    def uploads(self) -> Path:
        """Folder of archives that wait to be imported."""
        return self.home / "uploads"

    @property
    def cache(self) -> Path:
        """Folder of decoded images; may be deleted at any time while nothing runs."""
        return self.home / "cache"


def what_is_wrong(error: ValidationError) -> str:
    """A line for each wrong variable, without its value."""
    return "".join(
        f"DANLU_{str(wrong['loc'][0]).upper().removeprefix('DANLU_')}: "
        f"{wrong['msg'].removeprefix('Value error, ')}\n"
        for wrong in error.errors(include_input=False)
    )


def _read_key(file: Path) -> str:
    """Raises `ValueError` when there is none in it."""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        reason = f"the file {file} (DANLU_API_KEY_FILE) cannot be read: {error.strerror}"
        raise ValueError(reason) from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {file} (DANLU_API_KEY_FILE) is no text") from None
    if not key:
        raise ValueError(f"the file {file} (DANLU_API_KEY_FILE) is empty")
    return key
