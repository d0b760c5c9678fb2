-- Summaries of a week for users who (now) said nothing in it.
UPDATE memories SET status = 'deleted', version = version + 1, updated_at = now()
WHERE kind = 'summary' AND day >= %(week)s AND day < %(week)s::date + 7 AND status <> 'deleted' AND memory_id <> ALL (%(kept)s)
