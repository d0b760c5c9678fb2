"""Every MEMORY_* setting: typed, documented, validated. A bad value is one clear line, never a stack trace.

Settings are read when a process starts (`load_settings`), handed down as a value, and never read at import.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic_core import from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from memory_pipeline.model.errors import SettingsError
from memory_pipeline.model.jobs import JOB_TYPES, JobType, RetryPolicy

ConsumerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


def _parsed(value: object) -> object:
    """Parse JSON, here rather than in pydantic-settings, which tells of bad JSON without naming the variable."""
    return from_json(value) if isinstance(value, str) else value


def _of_known_types(timeouts: dict[str, int]) -> dict[JobType, int]:
    unknown = sorted(timeouts.keys() - set(JOB_TYPES))
    if unknown:
        raise ValueError(f"there are no jobs of type {', '.join(unknown)}; the types are {', '.join(JOB_TYPES)}")
    return {job_type: timeouts[job_type] for job_type in JOB_TYPES if job_type in timeouts}


class ExportConsumer(BaseModel):
    """What one consumer of exports may see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str | None = Field(None, description="Slug of the one tenant; all of them where there is none.")
    masked: bool = Field(False, description="Without texts, with pseudonyms for ids and names.")
    group: str | None = Field(
        None, min_length=1, description="Group of this machine that may open the files; else whoever publishes alone."
    )


class Settings(BaseSettings):
    """What a process is told by its environment; the names are these fields in capitals behind `MEMORY_`."""

    # A variable set to nothing is not set: an empty URL would mean whatever server the client finds by default.
    model_config = SettingsConfigDict(
        env_prefix="MEMORY_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        # An error keeps what it is behind in logs, and some settings are secrets.
        hide_input_in_errors=True,
    )

    # -- where things are; unset URLs mean the embedded servers of the local stack --
    home: Path = Field(Path(".memory"), description="State of the local stack: databases, lake, exports, logs.")
    postgres_admin_url: str | None = Field(None, description="Superuser or owner; used by `migrate` alone.")
    postgres_app_url: str | None = Field(None, description="Role memory_app: row-level security per tenant.")
    postgres_pipeline_url: str | None = Field(None, description="Role memory_pipeline: all tenants, by policy.")
    redis_url: str | None = Field(None, description="Queue, buffer and, unless set apart, caches.")
    redis_cache_url: str | None = Field(None, description="Caches, where they have a Redis of their own (LRU).")
    chroma_url: str | None = Field(None, description="Chroma server, such as http://127.0.0.1:8001.")
    chroma_database: str = Field("default_database", description="Chroma database that holds the collections.")
    dagster_postgres_url: str | None = Field(None, description="Dagster's own database.")
    data_dir: Path | None = Field(None, description="Lake and DuckDB exports; default MEMORY_HOME/data.")
    lake_url: Annotated[str, StringConstraints(pattern=r"^(file:///|s3://)")] | None = Field(
        None,
        description="Where the lake is published: file:///folder or s3://bucket/prefix?region=…&endpoint_override=…, "
        "with the credentials of AWS_*; unset: nowhere, the lake is a local folder.",
    )

    # -- pipeline --
    partition_start: date = Field(
        date(2022, 1, 1), description="First day (UTC) of the daily partitions; earlier messages are rejected."
    )
    embedder: Literal["minilm", "openai"] = Field("minilm", description="Which embedder makes the vectors.")
    embedding_base_url: str = Field("https://api.openai.com/v1", description="Any OpenAI-compatible endpoint.")
    embedding_api_key: str | None = Field(None, description="Key for that endpoint, where it asks for one.")
    embedding_model: str = Field("text-embedding-3-small", description="Model name sent to that endpoint.")
    embedding_dimension: int = Field(1536, ge=1, le=16000, description="Dimension that model answers with.")
    embedding_request_dimension: bool = Field(False, description="Send the dimension along; for models that shorten.")
    embedding_max_input_tokens: int = Field(8191, ge=16, description="Longest text that endpoint takes, in tokens.")
    embedding_max_request_inputs: int = Field(2048, ge=1, description="Most texts that endpoint takes at once.")
    embedding_timeout_seconds: float = Field(60.0, gt=0, description="Longest wait for an answer of that endpoint.")
    embedding_price_per_million_tokens: Decimal | None = Field(
        None, ge=0, le=1_000_000, description="US dollars that endpoint asks for a million tokens; unset: not known."
    )
    embedding_batch_tokens: int = Field(512, ge=256, description="Padded tokens per local embedding batch.")
    embedding_threads: int | None = Field(
        None,
        ge=1,
        description="Cores that one local embedding batch may use; unset: all, and one in a worker with several slots.",
    )
    enricher: Literal["local"] = Field("local", description="Which enricher finds facts.")
    chroma_documents: Literal["full", "none"] = Field(
        "full", description="Store each memory as JSON beside its vector, or ids and metadata only."
    )
    export_generations: int = Field(
        3, ge=1, description="Generations kept of each DuckDB file and of the published lake, the newest included."
    )
    export_min_interval_seconds: float = Field(
        600.0,
        ge=0,
        description="Least time between two exports that new facts and summaries bring about, and their longest wait.",
    )
    export_quiet_seconds: float = Field(
        75.0, ge=0, description="For so long nothing has changed when such an export begins before that longest wait."
    )
    max_message_bytes: int = Field(1_000_000, ge=1_000, description="Longest message content accepted, in UTF-8.")

    # -- recall --
    max_context_blocks: int = Field(10, ge=1, le=200, description="Memories in an answer unless asked otherwise.")

    # -- behaviour --
    retry_attempts: int = Field(3, ge=0, le=20, description="Retries of a remote call or a job after the first.")
    retry_backoff_ms: int = Field(1000, ge=1, description="First wait between tries; doubles each time.")

    worker_enabled: bool = Field(
        True, description="False: ingest enriches and indexes before it answers, and nothing waits for a worker."
    )
    worker_poll_interval_ms: int = Field(
        1000, ge=10, le=60_000, description="Longest a worker or relay sleeps before it looks for jobs by itself."
    )
    worker_max_concurrent_jobs: int = Field(5, ge=1, le=100, description="Micro-batches a worker has in work at once.")
    worker_job_timeout_ms: int = Field(
        30_000,
        ge=100,
        description="After it a job counts as failed; also, unless a type may take longer, the longest wait of a "
        "graceful stop.",
    )
    worker_job_timeouts_ms: Annotated[
        dict[str, Annotated[int, Field(ge=100)]],
        NoDecode,
        BeforeValidator(_parsed),
        AfterValidator(_of_known_types),
    ] = Field(default_factory=dict, description='The same for single types of jobs, as JSON: {"summarize": 60000}.')
    worker_lease_ms: int = Field(
        20_000, ge=1000, le=300_000, description="Silence of a worker after which its jobs go to others."
    )
    worker_batch_jobs: int = Field(256, ge=1, le=1000, description="Most jobs of a micro-batch.")
    worker_batch_window_ms: int = Field(
        50, ge=0, le=1000, description="How long a micro-batch that is not full waits for more jobs."
    )
    worker_port: int = Field(9464, ge=1, le=65535, description="Port of a worker's metrics on 127.0.0.1.")
    worker_health_check_interval_ms: int = Field(
        60_000, ge=1000, description="Time between a worker's health lines in the log."
    )
    job_retention_days: int = Field(3, ge=1, description="How long completed jobs are kept; dead ones stay.")
    access_log_retention_days: int = Field(
        365, ge=0, le=36_500, description="How long it is kept who was answered when, in the exports too; 0: for ever."
    )
    llm_usage_retention_days: int = Field(
        1095,
        ge=0,
        le=36_500,
        description="How long the cost of model calls is kept, in the exports too; 0: for ever.",
    )
    # What a flag set by hand (`memory-pipeline flags`) overrides in every process.
    system_enabled: bool = Field(
        True, description="False: the API answers 503 to everything but health and metrics, and no stage runs."
    )
    enrichment_enabled: bool = Field(True, description="False: messages wait unread.")
    embedding_enabled: bool = Field(True, description="False: memories wait without vectors; the index goes on.")
    relations_enabled: bool = Field(
        True, description="False: facts wait for being ordered in time, and those that ended stay current."
    )
    weekly_summaries_enabled: bool = Field(True, description="False: no weekly summaries are written.")
    fail_fast: bool = Field(
        False,
        description="For development: a record that fails ends the run with its error, and its job without a retry.",
    )
    embedding_rate_limit: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Memories of a tenant embedded in an hour by a plugin that costs money; unset is no limit.",
    )
    relation_detection_rate_limit: int = Field(
        5,
        ge=0,
        le=1_000_000,
        description="Detections in an hour and for a user, by a detector that costs money; the built-in one does not.",
    )
    backlog_sensor_jobs: int = Field(
        500,
        ge=1,
        description="Due jobs, and memories without one, at which Dagster launches a run where no worker does.",
    )
    backlog_sensor_seconds: float = Field(
        5.0, ge=0, description="Age of the oldest due work at which it does so, however little there is."
    )
    backlog_sensor_days: int = Field(92, ge=1, description="Most days of a run that the backlog launches.")
    backlog_sensor_worker_seconds: float = Field(
        120.0, ge=1, description="Age of the oldest due job at which a worker counts as stuck, and a run is launched."
    )
    buffer_sensor_seconds: float = Field(
        30.0, ge=0, description="Age of the oldest buffered write at which, with Postgres there, Dagster replays it."
    )

    # -- API --
    api_host: str = Field("127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(8000, ge=1, le=65535, description="Port of the API.")
    api_pool_size: int = Field(8, ge=1, le=200, description="Postgres connections of the API's requests.")
    auth_pool_size: int = Field(4, ge=1, le=200, description="Postgres connections that answer who is asking.")
    background_pool_size: int = Field(
        4, ge=3, le=50, description="Postgres connections of the API's own chores; a replay holds two."
    )
    api_max_request_bytes: int = Field(
        16_000_000, ge=10_000, description="Longest request body; a longer one is refused unread."
    )
    api_max_requests: int = Field(
        64, ge=1, le=10_000, description="Requests for data in work at once; more are answered 503 without waiting."
    )
    buffer_enabled: bool = Field(True, description="Take writes into Redis while Postgres is away.")
    buffer_max_writes: int = Field(100_000, ge=1, description="Most messages the write buffer holds.")
    buffer_max_bytes: int = Field(256_000_000, ge=1_000, description="Most bytes the write buffer holds.")

    # -- identity --
    issuers_file: Path | None = Field(
        None, description="JSON file of the trusted token issuers; default MEMORY_HOME/issuers.json where there is one."
    )
    token_leeway_seconds: int = Field(30, ge=0, le=300, description="Clock difference forgiven in a token's times.")
    session_seconds: int = Field(86_400, ge=60, description="How long a session lives without activity.")

    # -- local stack --
    ui_port: int = Field(3000, ge=1, le=65535, description="Dagster UI of `memory-pipeline up`.")

    # -- who gets which exports --
    export_consumers: Annotated[dict[ConsumerName, ExportConsumer], NoDecode, BeforeValidator(_parsed)] = Field(
        default_factory=dict,
        description='Who gets a file of their own, as JSON: {"acme": {"tenant": "acme"}, "lab": {"masked": true}}.',
    )
    export_group: str | None = Field(
        None,
        min_length=1,
        description="Group that alone may open the file of all tenants and the lake; unset: everyone on the machine "
        "the file, and only whoever publishes the lake.",
    )
    export_mask_key: SecretStr | None = Field(
        None, min_length=16, description="Secret behind the pseudonyms of masked files: another one, other pseudonyms."
    )

    @property
    def data(self) -> Path:
        """Folder of the lake and the DuckDB exports."""
        return self.data_dir if self.data_dir is not None else self.home / "data"

    def job_timeout_seconds(self, job_type: JobType) -> float:
        """How long a job of this type may take."""
        return self.worker_job_timeouts_ms.get(job_type, self.worker_job_timeout_ms) / 1000

    @property
    def job_retries(self) -> RetryPolicy:
        """How often jobs are tried, and how long they wait in between; failing fast, the first failure is the end."""
        return RetryPolicy(
            max_attempts=1 if self.fail_fast else self.retry_attempts + 1, backoff_seconds=self.retry_backoff_ms / 1000
        )


def _shown(location: tuple[int | str, ...], value: object) -> str:
    """Return what to repeat of a bad value: nothing of keys, nor of URLs, which may have a password in them."""
    return "" if str(location[0]).endswith(("_key", "_url")) else f"={value!r}"


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment. Raises SettingsError with one line per bad value."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # values are validated by pydantic itself
    except ValidationError as error:
        lines = [
            f"MEMORY_{'_'.join(map(str, problem['loc'])).upper()}{_shown(problem['loc'], problem['input'])}: "
            f"{problem['msg']}"
            for problem in error.errors()
        ]
        raise SettingsError("; ".join(lines)) from error
