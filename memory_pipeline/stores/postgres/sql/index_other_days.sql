-- Days outside the window with something to index all the same: memories that changed since they were indexed (a fact
-- ended by a later one), and summaries of the weeks around (a summary changes with each day of its week).
SELECT DISTINCT m.day
FROM index_entries i
JOIN memories m ON m.tenant_id = i.tenant_id AND m.memory_id = i.memory_id
WHERE i.tenant_id = %(tenant_id)s AND i.generation_id = %(generation_id)s AND i.version <> m.version
  AND NOT (m.day >= %(start)s AND m.day < %(end)s)
UNION
SELECT m.day
FROM memories m
WHERE m.tenant_id = %(tenant_id)s AND m.kind = 'summary' AND m.status = 'active'
  AND m.day >= %(week_start)s AND m.day < %(week_end)s AND NOT (m.day >= %(start)s AND m.day < %(end)s)
ORDER BY day
