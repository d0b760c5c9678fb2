-- A dead job for each memory that failed and that no job speaks for: by itself, or by the message it was found in. Of what
-- was found in one message, one. (There is no index of open jobs by subject, so all are read, as in backlog_by_day.)
WITH spoken_for AS MATERIALIZED (
    SELECT tenant_id, subject_id FROM memory_jobs
    WHERE state IN ('pending', 'failed') AND job_type = ANY (%(job_types)s::text[]) AND subject_id IS NOT NULL
    UNION ALL
    SELECT tenant_id, subject_id FROM memory_jobs
    WHERE state = 'processing' AND job_type = ANY (%(job_types)s::text[]) AND subject_id IS NOT NULL
)
INSERT INTO memory_jobs (tenant_id, job_type, state, subject_id, user_id, day, correlation_id, finished_at, error_class,
                         error_text)
SELECT DISTINCT ON (m.tenant_id, m.memory_id)
       m.tenant_id, 'enrich_and_embed', 'dead', m.memory_id, m.user_id, m.day, %(correlation_id)s, clock_timestamp(),
       f.failure_class, f.failure_text
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[], %(episode_ids)s::uuid[], %(failure_classes)s::text[],
            %(failure_texts)s::text[]) AS f (tenant_id, memory_id, episode_id, failure_class, failure_text)
LEFT JOIN memories e ON e.tenant_id = f.tenant_id AND e.memory_id = f.episode_id
JOIN memories m ON m.tenant_id = f.tenant_id AND m.memory_id = coalesce(e.memory_id, f.memory_id)
WHERE NOT EXISTS (SELECT FROM spoken_for s WHERE s.tenant_id = f.tenant_id AND s.subject_id = f.memory_id)
  AND NOT EXISTS (SELECT FROM spoken_for s WHERE s.tenant_id = m.tenant_id AND s.subject_id = m.memory_id)
  AND NOT EXISTS (SELECT FROM memory_jobs j
                  WHERE j.tenant_id = m.tenant_id AND j.subject_id IN (m.memory_id, f.memory_id) AND j.state = 'dead'
                    AND j.job_type = ANY (%(job_types)s::text[]))
ORDER BY m.tenant_id, m.memory_id
