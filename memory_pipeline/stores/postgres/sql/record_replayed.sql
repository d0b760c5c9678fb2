-- The ledger row of each buffered request that was written: the proof that it was, under the request's own id.
INSERT INTO memory_jobs (tenant_id, job_id, job_type, state, user_id, day, payload, attempts, correlation_id, finished_at)
SELECT e.tenant_id, e.entry_id, 'replay_write', 'completed', e.user_id, e.day,
       jsonb_build_object('messages', e.messages, 'inserted', e.inserted), 1, e.correlation_id, clock_timestamp()
FROM unnest(
    %(tenant_ids)s::uuid[], %(entry_ids)s::uuid[], %(user_ids)s::uuid[], %(days)s::date[], %(messages)s::bigint[],
    %(inserted)s::bigint[], %(correlation_ids)s::uuid[]
) AS e (tenant_id, entry_id, user_id, day, messages, inserted, correlation_id)
ON CONFLICT (tenant_id, job_id) DO NOTHING
