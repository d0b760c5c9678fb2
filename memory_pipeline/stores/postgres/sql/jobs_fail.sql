-- Tried again after its delay, or dead: because its attempts are used up, or because trying again can't help.
WITH held AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, c.error_class, c.error_text, c.delay_seconds,
           NOT c.retry OR j.attempts >= %(max_attempts)s AS is_dead
    FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(tokens)s::uuid[], %(error_classes)s::text[],
                %(error_texts)s::text[], %(retries)s::boolean[], %(delays)s::float8[])
        AS c (tenant_id, job_id, token, error_class, error_text, retry, delay_seconds)
    JOIN memory_jobs j ON j.tenant_id = c.tenant_id AND j.job_id = c.job_id AND j.claim_token = c.token
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
)
UPDATE memory_jobs j
SET state = CASE WHEN h.is_dead THEN 'dead' ELSE 'failed' END,
    finished_at = CASE WHEN h.is_dead THEN clock_timestamp() END,
    available_at = clock_timestamp() + h.delay_seconds * interval '1 second',
    published_at = NULL,
    claimed_alone = false,
    claim_token = NULL,
    lease_until = NULL,
    error_class = h.error_class,
    error_text = h.error_text
FROM held h
WHERE j.tenant_id = h.tenant_id AND j.job_id = h.job_id
RETURNING j.tenant_id, j.job_id, j.state
