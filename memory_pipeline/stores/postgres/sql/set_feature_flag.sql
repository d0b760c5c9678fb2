-- No row where the flag was set so already: who set it first, and when, stays.
INSERT INTO feature_flags AS f (flag, enabled, changed_by)
VALUES (%(flag)s, %(enabled)s, %(changed_by)s)
ON CONFLICT (flag) DO UPDATE
    SET enabled = excluded.enabled, changed_by = excluded.changed_by, changed_at = clock_timestamp()
    WHERE f.enabled <> excluded.enabled
