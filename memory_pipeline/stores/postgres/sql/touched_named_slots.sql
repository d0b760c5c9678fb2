-- The slots of those of these memories that are facts.
CREATE TEMPORARY TABLE touched_slot ON COMMIT DROP AS
SELECT m.tenant_id, m.user_id, m.subject, m.slot, row_number() OVER () AS slot_number
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
CROSS JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = n.tenant_id AND m.memory_id = n.memory_id OFFSET 0
) m
WHERE m.kind = 'fact' AND m.slot IS NOT NULL
GROUP BY m.tenant_id, m.user_id, m.subject, m.slot
