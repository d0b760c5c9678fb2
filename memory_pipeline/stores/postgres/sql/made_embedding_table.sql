CREATE TEMPORARY TABLE IF NOT EXISTS made_embedding (
    tenant_id     uuid,
    memory_id     uuid,
    chunk         integer,
    chunks        integer,
    embedding     vector,
    content_hash  bytea
) ON COMMIT DELETE ROWS
