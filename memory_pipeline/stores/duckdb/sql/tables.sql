-- The tables of the published file. `day` is the partition of the lake: the UTC day of the (first) source message.
-- Hashes can't be made smaller: looking for how takes a fifth of the time that loading messages takes.
CREATE TABLE tenants (
    tenant_id   UUID NOT NULL,
    slug        VARCHAR NOT NULL,
    name        VARCHAR NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);
CREATE TABLE users (
    tenant_id     UUID NOT NULL,
    user_id       UUID NOT NULL,
    email         VARCHAR NOT NULL,
    display_name  VARCHAR NOT NULL,
    preferences   JSON NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL
);
CREATE TABLE conversations (
    tenant_id               UUID NOT NULL,
    conversation_id         UUID NOT NULL,
    user_id                 UUID NOT NULL,
    source                  VARCHAR NOT NULL,
    source_conversation_id  VARCHAR NOT NULL,
    title                   VARCHAR,
    project                 VARCHAR,
    created_at              TIMESTAMPTZ NOT NULL
);
CREATE TABLE messages (
    day                DATE NOT NULL,
    tenant_id          UUID NOT NULL,
    message_id         UUID NOT NULL,
    conversation_id    UUID NOT NULL,
    user_id            UUID NOT NULL,
    source             VARCHAR NOT NULL,
    source_message_id  VARCHAR NOT NULL,
    role               VARCHAR NOT NULL,
    speaker            VARCHAR,
    content            VARCHAR NOT NULL,
    content_hash       BLOB USING COMPRESSION uncompressed NOT NULL,
    sent_at            TIMESTAMPTZ NOT NULL,
    position           BIGINT NOT NULL,
    raw_data           JSON,
    received_at        TIMESTAMPTZ NOT NULL
);
CREATE TABLE memories (
    day                 DATE NOT NULL,
    tenant_id           UUID NOT NULL,
    memory_id           UUID NOT NULL,
    user_id             UUID NOT NULL,
    conversation_id     UUID,
    kind                VARCHAR NOT NULL,
    status              VARCHAR NOT NULL,
    content             VARCHAR NOT NULL,
    content_hash        BLOB USING COMPRESSION uncompressed NOT NULL,
    source_message_ids  UUID[] NOT NULL,
    project             VARCHAR,
    raw_data            JSON NOT NULL,
    enricher            VARCHAR,
    confidence          FLOAT,
    valid_from          TIMESTAMPTZ,
    valid_to            TIMESTAMPTZ,
    superseded_by       UUID,
    attempts            INTEGER NOT NULL,
    failure_class       VARCHAR,
    version             BIGINT NOT NULL,
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL
);
CREATE TABLE facts (
    day                DATE NOT NULL,
    tenant_id          UUID NOT NULL,
    fact_id            UUID NOT NULL,
    user_id            UUID NOT NULL,
    conversation_id    UUID,
    source_message_id  UUID NOT NULL,
    status             VARCHAR NOT NULL,
    statement          VARCHAR NOT NULL,
    subject            VARCHAR NOT NULL,
    predicate          VARCHAR NOT NULL,
    object             VARCHAR NOT NULL,
    negated            BOOLEAN NOT NULL,
    slot               VARCHAR,
    confidence         FLOAT NOT NULL,
    valid_from         TIMESTAMPTZ NOT NULL,
    valid_to           TIMESTAMPTZ,
    superseded_by      UUID,
    enricher           VARCHAR NOT NULL,
    created_at         TIMESTAMPTZ NOT NULL
);
CREATE TABLE memory_relationships (
    day         DATE NOT NULL,
    tenant_id   UUID NOT NULL,
    from_id     UUID NOT NULL,
    to_id       UUID NOT NULL,
    kind        VARCHAR NOT NULL,
    confidence  FLOAT NOT NULL,
    detector    VARCHAR NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);
CREATE TABLE summaries (
    day              DATE NOT NULL,
    tenant_id        UUID NOT NULL,
    summary_id       UUID NOT NULL,
    user_id          UUID NOT NULL,
    status           VARCHAR NOT NULL,
    content          VARCHAR NOT NULL,
    source_messages  BIGINT NOT NULL,
    raw_data         JSON NOT NULL,
    version          BIGINT NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL
);
CREATE TABLE profiles (
    day              DATE NOT NULL,
    tenant_id        UUID NOT NULL,
    profile_id       UUID NOT NULL,
    user_id          UUID NOT NULL,
    status           VARCHAR NOT NULL,
    content          VARCHAR NOT NULL,
    source_messages  BIGINT NOT NULL,
    raw_data         JSON NOT NULL,
    version          BIGINT NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL
);
CREATE TABLE jobs (
    day             DATE NOT NULL,
    tenant_id       UUID NOT NULL,
    job_id          UUID NOT NULL,
    job_type        VARCHAR NOT NULL,
    state           VARCHAR NOT NULL,
    priority        SMALLINT NOT NULL,
    subject_id      UUID,
    user_id         UUID,
    subject_day     DATE NOT NULL,
    attempts        INTEGER NOT NULL,
    error_class     VARCHAR,
    correlation_id  UUID NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    available_at    TIMESTAMPTZ NOT NULL,
    finished_at     TIMESTAMPTZ
);
CREATE TABLE job_days (
    day            DATE NOT NULL,
    tenant_id      UUID NOT NULL,
    job_type       VARCHAR NOT NULL,
    lag_bucket     SMALLINT NOT NULL,
    lag_seconds    DOUBLE NOT NULL,
    completed      BIGINT NOT NULL,
    attempts       BIGINT NOT NULL,
    most_attempts  INTEGER NOT NULL
);
CREATE TABLE audit_runs (
    day          DATE NOT NULL,
    tenant_id    UUID NOT NULL,
    audit_id     UUID NOT NULL,
    started_at   TIMESTAMPTZ NOT NULL,
    finished_at  TIMESTAMPTZ,
    model        VARCHAR,
    looked_for   VARCHAR[] NOT NULL,
    findings     BIGINT NOT NULL
);
CREATE TABLE audit_findings (
    day         DATE NOT NULL,
    tenant_id   UUID NOT NULL,
    finding_id  UUID NOT NULL,
    audit_id    UUID NOT NULL,
    audited_at  TIMESTAMPTZ NOT NULL,
    store       VARCHAR NOT NULL,
    problem     VARCHAR NOT NULL,
    subject_id  UUID,
    detail      JSON NOT NULL,
    repaired    BOOLEAN NOT NULL,
    in_all      BIGINT NOT NULL
);
CREATE TABLE events (
    day             DATE NOT NULL,
    tenant_id       UUID NOT NULL,
    event_id        UUID NOT NULL,
    kind            VARCHAR NOT NULL,
    actor           VARCHAR NOT NULL,
    subject_id      UUID,
    correlation_id  UUID NOT NULL,
    detail          JSON NOT NULL,
    occurred_at     TIMESTAMPTZ NOT NULL
);
CREATE TABLE memory_access (
    day             DATE NOT NULL,
    tenant_id       UUID NOT NULL,
    access_id       UUID NOT NULL,
    user_id         UUID NOT NULL,
    accessed_at     TIMESTAMPTZ NOT NULL,
    correlation_id  UUID NOT NULL,
    what            VARCHAR NOT NULL,
    channel         VARCHAR NOT NULL,
    query_hash      BLOB NOT NULL,
    memories        INTEGER NOT NULL,
    memory_ids      UUID[] NOT NULL,
    turns           INTEGER NOT NULL,
    degraded        BOOLEAN NOT NULL,
    degraded_parts  VARCHAR[] NOT NULL,
    from_cache      BOOLEAN NOT NULL,
    milliseconds    DOUBLE NOT NULL
);
CREATE TABLE llm_usage (
    day                DATE NOT NULL,
    tenant_id          UUID NOT NULL,
    usage_id           UUID NOT NULL,
    used_at            TIMESTAMPTZ NOT NULL,
    correlation_id     UUID NOT NULL,
    plugin             VARCHAR NOT NULL,
    model              VARCHAR NOT NULL,
    what               VARCHAR NOT NULL,
    requests           INTEGER NOT NULL,
    texts              INTEGER NOT NULL,
    prompt_tokens      BIGINT,
    completion_tokens  BIGINT NOT NULL,
    cost_usd           DECIMAL(18,10)
);
