-- How many facts were true half way through the time of the messages, and how many of those have ended since?
--
-- A fact holds from `valid_from` up to, but not including, `valid_to`; an open one has NULL there. Put any moment in
-- place of `moment` to ask what was true then.
WITH half_way AS (
    SELECT min(sent_at) + (max(sent_at) - min(sent_at)) / 2 AS moment FROM messages
)
SELECT c.tenant, (h.moment AT TIME ZONE 'UTC')::DATE AS day,
       count(*) AS true_then,
       count(c.valid_to) AS ended_since,
       count(DISTINCT c.user_id) AS users
FROM mart_fact_catalogue c
CROSS JOIN half_way h
WHERE c.valid_from <= h.moment AND (c.valid_to IS NULL OR c.valid_to > h.moment)
GROUP BY c.tenant, day
ORDER BY c.tenant
