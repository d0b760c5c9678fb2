-- The slots of the facts of these days.
CREATE TEMPORARY TABLE touched_slot ON COMMIT DROP AS
SELECT tenant_id, user_id, subject, slot, row_number() OVER () AS slot_number
FROM memories
WHERE kind = 'fact' AND slot IS NOT NULL AND day >= %(start)s AND day < %(end)s
GROUP BY tenant_id, user_id, subject, slot
