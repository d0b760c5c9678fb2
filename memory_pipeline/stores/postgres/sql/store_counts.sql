SELECT t.slug AS tenant,
       (SELECT count(*) FROM users u WHERE u.tenant_id = t.tenant_id) AS users,
       (SELECT count(*) FROM messages m WHERE m.tenant_id = t.tenant_id) AS messages,
       by_kind.pending, by_kind.failed, by_kind.facts, by_kind.summaries,
       (SELECT count(*) FROM memory_relationships r WHERE r.tenant_id = t.tenant_id) AS relations,
       (SELECT count(*) FROM memory_embeddings e WHERE e.tenant_id = t.tenant_id) AS vectors,
       (SELECT count(*) FROM index_entries i JOIN index_generations g USING (tenant_id, generation_id)
        WHERE i.tenant_id = t.tenant_id AND g.state = 'live') AS indexed
FROM tenants t
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'pending_enrichment') AS pending,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           count(*) FILTER (WHERE kind = 'fact' AND status IN ('active', 'superseded')) AS facts,
           count(*) FILTER (WHERE kind = 'summary' AND status = 'active') AS summaries
    FROM memories m
    WHERE m.tenant_id = t.tenant_id
) by_kind
ORDER BY t.slug
