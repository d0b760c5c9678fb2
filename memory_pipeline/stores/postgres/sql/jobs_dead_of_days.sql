-- Dead jobs of these days that nobody ever claimed: a run found that their memory can't be done. Those whose memory is not
-- among the dead letters any more (it says something else now, it was deleted) may have nothing left to be done.
SELECT j.tenant_id, j.job_id
FROM memory_jobs j
WHERE j.state = 'dead' AND j.attempts = 0
  AND j.job_type = ANY (%(job_types)s::text[]) AND j.day >= %(start)s AND j.day < %(end)s
  AND NOT EXISTS (SELECT FROM memories m
                  WHERE m.tenant_id = j.tenant_id AND m.memory_id = j.subject_id AND m.status = 'failed')
ORDER BY j.tenant_id, j.job_id
