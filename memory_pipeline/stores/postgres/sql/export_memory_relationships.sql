SELECT day, tenant_id, from_id, to_id, kind, confidence, detector, created_at
FROM memory_relationships
WHERE day >= current_setting('export.start_day')::date AND day < current_setting('export.end_day')::date
ORDER BY day, tenant_id, from_id, to_id, kind
