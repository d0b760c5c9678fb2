-- Without those of deleted memories, which are not exported either: every edge has both of its ends.
SELECT day, tenant_id, from_id, to_id, kind, confidence, detector, created_at
FROM memory_relationships r
WHERE day >= current_setting('export.start_day')::date AND day < current_setting('export.end_day')::date
  AND NOT EXISTS (SELECT FROM memories m
                  WHERE m.status = 'deleted' AND m.tenant_id = r.tenant_id AND m.memory_id = r.from_id)
  AND NOT EXISTS (SELECT FROM memories m
                  WHERE m.status = 'deleted' AND m.tenant_id = r.tenant_id AND m.memory_id = r.to_id)
ORDER BY day, tenant_id, from_id, to_id, kind
