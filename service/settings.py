"""One frozen settings object, read once from the environment. Names without a prefix are the field's own."""

import os
from functools import cached_property
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

BUNDLED_MODEL = Path(__file__).resolve().parent.parent / "models" / "tiny-gemma4"
GIB = 1 << 30


class Settings(BaseSettings):
    """Everything an operator can set. Seconds, bytes and counts are named as such."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICE_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        enable_decoding=False,
        env_parse_none_str="none",
    )

    data_dir: Path = Path(".sluice")
    database_url_setting: str | None = Field(default=None, validation_alias="DATABASE_URL")
    redis_url_setting: str | None = Field(default=None, validation_alias="REDIS_URL")
    blob_url_setting: str | None = Field(default=None, validation_alias="BLOB_URL")

    # Roots under which file:// and plain paths may be read, separated by os.pathsep; none on a server by default.
    allow_files: str = ""

    # The model this stack serves: a folder or a hub name; `served_name` is what clients call it besides `default`.
    model: str = str(BUNDLED_MODEL)
    served_name: str | None = None
    quant_bits: int | None = 8
    device: str = "auto"
    dtype: str = "auto"
    chat_template: Path | None = None
    max_slots: int = 16
    max_context_tokens: int = 4096
    num_decoders: int = 2
    num_preparers: int = 2
    num_torch_threads: int | None = None

    lease_seconds: float = 30.0
    heartbeat_seconds: float = 5.0
    poll_seconds: float = 1.0
    reap_seconds: float = 5.0
    drain_seconds: float = 25.0
    # An engine that has work and makes no progress for so long ends its process, to be started again; 0: never.
    watchdog_seconds: float = Field(default=120.0, ge=0)
    flush_jobs: int = 64
    flush_seconds: float = 0.2

    max_upload_bytes: int = 10 * GIB
    max_request_bytes: int = 64 << 20
    inline_body_bytes: int = 64 << 10
    ingest_chunk_lines: int = 2000
    batch_window_seconds: int = 24 * 3600
    chat_timeout_seconds: float = 600.0

    @cached_property
    def database_url(self) -> str:
        """SQLAlchemy URL; SQLite under the data directory where none is set."""
        return self.database_url_setting or f"sqlite:///{self.data_dir.resolve() / 'sluice.db'}"

    @cached_property
    def redis_url(self) -> str | None:
        """Broker and streams; None means that no broker is known, and work is found by polling alone."""
        return self.redis_url_setting

    @cached_property
    def blob_url(self) -> str:
        """fsspec URL of the folder for uploads, manifests and outputs."""
        return self.blob_url_setting or f"file://{self.data_dir.resolve() / 'blobs'}"

    @cached_property
    def allowed_roots(self) -> tuple[Path, ...]:
        """Folders that local media may come from, resolved."""
        return tuple(Path(root).resolve() for root in self.allow_files.split(os.pathsep) if root)

    @cached_property
    def model_name(self) -> str:
        """The name under which /v1/models lists the model."""
        return self.served_name or Path(self.model).name
