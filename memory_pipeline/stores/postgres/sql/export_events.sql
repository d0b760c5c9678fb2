SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, tenant_id, event_id, kind, actor, subject_id, correlation_id,
       detail, occurred_at
FROM events
WHERE occurred_at >= current_setting('export.start_time')::timestamptz
  AND occurred_at < current_setting('export.end_time')::timestamptz
ORDER BY occurred_at, tenant_id, event_id
