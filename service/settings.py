"""One frozen settings object, read once from the environment. Names without a prefix are the field's own."""

import json
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import ConfigurationError
from service.served_models import FurtherModel

BUNDLED_MODEL = Path(__file__).resolve().parent.parent / "models" / "tiny-gemma4"
GIB = 1 << 30

QUANT_BITS = (8, 4, 3, 2, 1)
QUANT_GROUP_SIZES = (8, 16, 32, 64, 128, 256)
QUANT_ORGANIZATIONS = ("default", "moqe")
LINEAR_KERNELS = ("auto", "torch", "onednn-packed", "panels", "int4", "dequantize")


CHOICES: dict[str, tuple[int | str, ...]] = {
    "quant_bits": QUANT_BITS,
    "quant_group_size": QUANT_GROUP_SIZES,
    "quant_organization": QUANT_ORGANIZATIONS,
    "linear_kernel": LINEAR_KERNELS,
}


_JSON_HINTS = {
    "quant_rules": """Write patterns of layer names, such as {"mlp": 4, "lm_head": null}.""",
    "quant_skip": """Write patterns of layer names, such as ["vision"].""",
    "more_models": """Write a list of models, such as [{"model": "org/name", "quant_bits": 4}].""",
}


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
    # Numbers that share a scale; JSON of layer-name pattern -> bits or null, the first that matches decides; `moqe`
    # quantizes experts alone; a JSON list of layer-name patterns instead of the layers that are skipped by default.
    quant_group_size: int = 64
    quant_rules: dict[str, int | None] = Field(default_factory=dict)
    quant_organization: str = "default"
    quant_skip: tuple[str, ...] | None = None
    # Where quantized checkpoints are kept for the next start, from the data directory on; none keeps none.
    quant_cache: Path | None = Path("quantized")
    quant_cache_bytes: int = 50 * GIB
    linear_kernel: str = "auto"
    # Models besides that one, as JSON: [{"model": …, "served_name": …, "quant_bits": …, "chat_template": …}].
    more_models: tuple[FurtherModel, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    chat_template: Path | None = None
    max_slots: int = 16
    max_context_tokens: int = 4096
    num_decoders: int = 2
    # Processes that turn text and pixels into tensors; 0: the engine's own process does.
    num_preparers: int = 2
    # Prepared inputs that wait for the engine; bulk is prepared ahead no further.
    prepared_bytes: int = 512 << 20
    # What each model may keep of prompts and of media that come again; 0 keeps nothing, none lets the device decide.
    prefix_cache_bytes: int | None = None
    encoder_cache_bytes: int | None = None
    num_torch_threads: int | None = None

    # What one request may hold of images, videos and sounds, and what it may ask to see or hear of each.
    max_parts: int = Field(default=256, ge=1, le=256)
    max_frames: int = Field(default=1024, ge=1, le=1024)
    max_pixels: int = Field(default=16_000_000, ge=1024)
    max_video_seconds: float = Field(default=1800.0, gt=0)
    max_audio_seconds: float = Field(default=1800.0, gt=0)

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
    # How long an Idempotency-Key is known at least.
    idempotency_seconds: float = Field(default=24 * 3600.0, gt=0)
    # Addresses, networks and host names, between commas, that may be dialled for strangers besides the public internet;
    # and whether also without TLS.
    allow_addresses: str = ""
    allow_http: bool = False
    # One attempt; the wait after the first that fails, doubled each time; and the age at which an event is given up.
    webhook_timeout_seconds: float = Field(default=10.0, gt=0)
    webhook_retry_seconds: float = Field(default=5.0, gt=0)
    webhook_give_up_seconds: float = Field(default=24 * 3600.0, gt=0)
    # How long an answer may be given again to equal requests that allow it; 0: never.
    answer_cache_seconds: float = Field(default=24 * 3600.0, ge=0)
    # Quotas of tenants that were given none of their own; none: no limit. What they count: actions/check_quotas.py.
    quota_requests_per_minute: int | None = Field(default=None, ge=0)
    quota_tokens_per_day: int | None = Field(default=None, ge=0)
    quota_queued_jobs: int | None = Field(default=None, ge=0)
    quota_stored_bytes: int | None = Field(default=None, ge=0)
    # Whether polls and lists count as requests too.
    quota_counts_polls: bool = False
    # How long the name of a model stays known that nobody configured here and whose workers have gone.
    model_grace_seconds: float = Field(default=300.0, ge=0)
    # What a model is told that hears, and was not made for transcribing alone.
    transcription_prompt: str = "Transcribe this recording word for word. Answer with the words alone."

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

    @cached_property
    def each_model(self) -> "tuple[Settings, ...]":
        """These settings for each served model, the default one first, with no further models."""
        return tuple(self._for_model(further) for further in (None, *self.more_models))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of all served models, the default one first."""
        return tuple(settings.model_name for settings in self.each_model)

    def _for_model(self, further: FurtherModel | None) -> "Settings":
        if further is None:
            return self.model_copy(update={"more_models": ()})
        named = {name: getattr(further, name) for name in further.model_fields_set}
        own = self.model_copy(update={"more_models": (), "served_name": None, "chat_template": None, **named})
        own.__dict__.pop("model_name", None)
        return own

    @field_validator("more_models")
    @classmethod
    def _names_differ(
        cls, models: tuple[FurtherModel, ...], info: ValidationInfo
    ) -> tuple[FurtherModel, ...]:
        first = info.data.get("served_name") or Path(info.data.get("model", "")).name
        names = [first, *(further.served_name or Path(further.model).name for further in models)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigurationError(
                f"Two models would be called {twice[0]!r}.", hint="Give one of them a served_name."
            )
        for further in models:
            if further.quant_bits is not None and further.quant_bits not in QUANT_BITS:
                raise ConfigurationError(
                    f"HQQ cannot store {further.quant_bits} bits.",
                    hint=f"Use one of {', '.join(map(str, QUANT_BITS))}, or null.",
                )
        return models

    @cached_property
    def quant_cache_dir(self) -> Path | None:
        """The folder of quantized checkpoints, or None where they are not kept."""
        return self.data_dir.resolve() / self.quant_cache if self.quant_cache else None

    @field_validator("quant_bits", "quant_group_size", "quant_organization", "linear_kernel")
    @classmethod
    def _is_a_choice(cls, value: int | str | None, info: ValidationInfo) -> int | str | None:
        choices = CHOICES[str(info.field_name)]
        if value is not None and value not in choices:
            raise ConfigurationError(
                f"{_name(info)} cannot be {value}.", hint=f"Use one of {', '.join(map(str, choices))}."
            )
        return value

    @field_validator("quant_rules", "quant_skip", "more_models", mode="before")
    @classmethod
    def _from_json(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name == "quant_rules":
            return {}
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            raise ConfigurationError(
                f"{_name(info)} is not JSON: {value}",
                hint=_JSON_HINTS[str(info.field_name)],
            ) from error

    @field_validator("quant_rules", "quant_skip")
    @classmethod
    def _patterns_compile(cls, value: Any, info: ValidationInfo) -> Any:
        for pattern in value or ():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigurationError(
                    f"{_name(info)} holds {pattern!r}, which is not a regular expression ({error}).",
                    hint="Patterns are Python's, searched in the names of layers.",
                ) from error
        return value

    @field_validator("quant_rules")
    @classmethod
    def _rules_name_bits(cls, rules: dict[str, int | None]) -> dict[str, int | None]:
        wrong = [bits for bits in rules.values() if bits is not None and bits not in QUANT_BITS]
        if wrong:
            raise ConfigurationError(
                f"A quantization rule cannot ask for {wrong[0]} bits.",
                hint=f"Use one of {', '.join(map(str, QUANT_BITS))}, or null.",
            )
        return rules


def _name(info: ValidationInfo) -> str:
    return f"SLUICE_{info.field_name}".upper()
