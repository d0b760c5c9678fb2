-- No row where the limit was so already.
INSERT INTO memory_rate_limits AS l (tenant_id, user_id, what, per_hour, changed_by)
VALUES (%(tenant_id)s, %(user_id)s, %(what)s, %(per_hour)s, %(changed_by)s)
ON CONFLICT (tenant_id, user_id, what) DO UPDATE
    SET per_hour = excluded.per_hour, changed_by = excluded.changed_by, changed_at = clock_timestamp()
    WHERE l.per_hour <> excluded.per_hour
