-- Every fact of every slot that the window touches, with the fact that ends it and the first of its own run.
CREATE TEMPORARY TABLE fact_run ON COMMIT DROP AS
WITH touched AS (
    SELECT DISTINCT tenant_id, user_id, subject, slot
    FROM memories
    WHERE kind = 'fact' AND slot IS NOT NULL AND day >= %(start)s AND day < %(end)s
), steps AS (
    SELECT m.tenant_id, m.user_id, m.subject, m.slot, m.memory_id, m.valid_from, m.day,
           (m.raw_data ->> 'stated_valid_to')::timestamptz AS stated_valid_to,
           (lower(m.object), m.negated) IS DISTINCT FROM
               (lag(lower(m.object)) OVER in_time, lag(m.negated) OVER in_time) AS begins_run
    FROM memories m
    JOIN touched USING (tenant_id, user_id, subject, slot)
    WHERE m.kind = 'fact' AND m.status IN ('active', 'superseded')
    WINDOW in_time AS (PARTITION BY m.tenant_id, m.user_id, m.subject, m.slot ORDER BY m.valid_from, m.memory_id)
), runs AS (
    SELECT *, count(*) FILTER (WHERE begins_run) OVER (
        PARTITION BY tenant_id, user_id, subject, slot ORDER BY valid_from, memory_id) AS run
    FROM steps
)
SELECT r.tenant_id, r.memory_id, r.day, r.stated_valid_to, first.memory_id AS first_of_run,
       next.memory_id AS ended_by, next.valid_from AS ended_at
FROM runs r
JOIN runs first ON first.begins_run
    AND (first.tenant_id, first.user_id, first.subject, first.slot, first.run) = (r.tenant_id, r.user_id, r.subject, r.slot, r.run)
LEFT JOIN runs next ON next.begins_run
    AND (next.tenant_id, next.user_id, next.subject, next.slot, next.run) = (r.tenant_id, r.user_id, r.subject, r.slot, r.run + 1)
