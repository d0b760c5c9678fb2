-- What runs over days could work off now: due jobs, and memories to be enriched that no job speaks for (imports write
-- none). Of tenants that permit what it takes; a run could do nothing for others. A memory whose job is dead waits for a
-- person. There is no index by subject, so all jobs that are not completed are read, each from its partial index.
WITH permitted AS MATERIALIZED (
    SELECT tenant_id, count(*) = 2 AS embeds
    FROM permitted_plugins
    WHERE role = 'pipeline' AND plugin IN (%(enricher)s, %(embedder)s)
    GROUP BY tenant_id
    HAVING bool_or(plugin = %(enricher)s)
), spoken_for AS MATERIALIZED (
    SELECT tenant_id, subject_id FROM memory_jobs WHERE state IN ('pending', 'failed') AND subject_id IS NOT NULL
    UNION ALL
    SELECT tenant_id, subject_id FROM memory_jobs WHERE state = 'processing' AND subject_id IS NOT NULL
    UNION ALL
    SELECT tenant_id, subject_id FROM memory_jobs WHERE state = 'dead' AND subject_id IS NOT NULL
)
SELECT j.day, true AS by_job, count(*) AS items,
       extract(epoch FROM clock_timestamp() - min(j.available_at))::float8 AS oldest_seconds,
       max(j.available_at) AS newest
FROM memory_jobs j
JOIN permitted p USING (tenant_id)
WHERE j.state IN ('pending', 'failed') AND j.available_at <= clock_timestamp()
  AND j.job_type = ANY (%(job_types)s::text[])
  AND CASE WHEN %(embedding)s THEN p.embeds
           -- What was read waits for its vector; what was deleted, or is new, does not.
           ELSE j.job_type = 'detect_relations' OR NOT EXISTS (
               SELECT FROM memories m
               WHERE m.tenant_id = j.tenant_id AND m.memory_id = j.subject_id AND m.status IN ('active', 'superseded'))
      END
GROUP BY j.day
UNION ALL
SELECT m.day, false, count(*), greatest(0, extract(epoch FROM clock_timestamp() - min(m.updated_at)))::float8,
       max(m.updated_at)
FROM memories m
JOIN permitted p USING (tenant_id)
LEFT JOIN spoken_for s ON s.tenant_id = m.tenant_id AND s.subject_id = m.memory_id
WHERE m.status = 'pending_enrichment' AND s.subject_id IS NULL
GROUP BY m.day
ORDER BY day, by_job
