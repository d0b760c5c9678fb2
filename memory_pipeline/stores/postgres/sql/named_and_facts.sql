-- These memories, and the facts found in the messages of those that are episodes. OFFSET 0 has each looked up by its key,
-- whatever the planner believes of the table.
WITH named AS MATERIALIZED (
    SELECT m.tenant_id, m.memory_id, m.kind, m.source_message_ids
    FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
    CROSS JOIN LATERAL (
        SELECT * FROM memories m WHERE m.tenant_id = n.tenant_id AND m.memory_id = n.memory_id OFFSET 0
    ) m
)
SELECT tenant_id, memory_id
FROM named
UNION
SELECT f.tenant_id, f.memory_id
FROM named e
CROSS JOIN LATERAL (
    SELECT *
    FROM memories f
    WHERE f.kind = 'fact' AND f.tenant_id = e.tenant_id AND f.source_message_ids[1] = e.source_message_ids[1]
    OFFSET 0
) f
WHERE e.kind = 'episode'
