-- In the order given: job_id and available_at, by which the queue is ordered, grow along.
INSERT INTO memory_jobs (tenant_id, job_type, subject_id, user_id, day, payload, priority, available_at, correlation_id)
SELECT n.tenant_id, n.job_type, n.subject_id, n.user_id, n.day, n.payload, n.priority,
       clock_timestamp() + n.delay_seconds * interval '1 second', n.correlation_id
FROM unnest(
    %(tenant_ids)s::uuid[], %(job_types)s::text[], %(subject_ids)s::uuid[], %(user_ids)s::uuid[], %(days)s::date[],
    %(payloads)s::jsonb[], %(priorities)s::smallint[], %(delays)s::float8[], %(correlation_ids)s::uuid[]
) WITH ORDINALITY AS n (tenant_id, job_type, subject_id, user_id, day, payload, priority, delay_seconds, correlation_id,
                        place)
ORDER BY n.place
RETURNING tenant_id, job_id
