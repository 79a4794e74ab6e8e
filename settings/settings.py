"""One frozen record of everything that can be set from outside. docs/settings.md describes each."""

from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All settings. Each is the variable of the same name with `DANLU_` in front."""

    model_config = SettingsConfigDict(
        env_prefix="DANLU_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("danlu"),
        description="Folder of everything that danlu keeps: database, checkpoints, runs, cache.",
    )
    datasets_dir: Path | None = Field(
        default=None, description="Folder of the data sets. Default: `datasets` in the home."
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL. Default: `danlu.sqlite3` in the home."
    )
    host: str = Field(default="127.0.0.1", description="Address that the server listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    no_auth: bool = Field(
        default=False, description="Listen where others can reach the server, without any key."
    )
    start_method: Literal["auto", "forkserver", "spawn"] = Field(
        default="auto",
        description="How training processes start. auto: forkserver on Linux, spawn elsewhere.",
    )
    predict_device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda(:\d+)?|mps)$",
        description="Device that predictions are computed on: cpu, cuda, cuda:1, mps.",
    )
    max_image_bytes: int = Field(
        default=25_000_000, ge=1, description="Largest image in a request."
    )
    max_files: int = Field(default=64, ge=1, description="Most images in one request.")
    max_body_bytes: int = Field(
        default=1_000_000, ge=1, description="Largest body of a request that carries no image."
    )
    predict_timeout_seconds: float = Field(
        default=30.0, gt=0, description="A prediction that takes longer is answered with 504."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much the programs write to stderr."
    )
    parent_fd: int | None = Field(
        default=None, description="Set by `danlu serve`: a pipe that closes when it ends."
    )
    listen_fd: int | None = Field(
        default=None, description="Set by `danlu serve`: the socket to listen on."
    )

    @field_validator("home", "datasets_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """A home is the same folder wherever a program was started."""
        return None if value is None else value.expanduser().absolute()

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
    def runs(self) -> Path:
        """Folder with one folder per job: process.json, exit.json, log.txt."""
        return self.home / "runs"

    @property
    def cache(self) -> Path:
        """Folder of decoded images; may be deleted at any time while nothing runs."""
        return self.home / "cache"
