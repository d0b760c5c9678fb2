-- Jobs of the days to be replaced that are of a user who is not there (any more).
SELECT count(*)
FROM (FROM jobs WHERE user_id IS NOT NULL AND list_contains($days, day)) AS j
ANTI JOIN users AS u ON j.tenant_id = u.tenant_id AND j.user_id = u.user_id
