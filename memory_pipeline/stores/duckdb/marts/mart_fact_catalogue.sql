-- Every fact with the interval in which it holds, and what took its place.
CREATE TABLE mart_fact_catalogue AS
SELECT f.tenant_id, t.slug AS tenant, f.user_id, u.email, f.fact_id, f.statement, f.subject, f.predicate, f.object,
       f.negated, f.slot, f.confidence, f.valid_from, f.valid_to,
       f.status = 'active' AS is_active,
       f.superseded_by, n.statement AS superseded_by_statement,
       f.source_message_id, f.enricher
FROM facts f
JOIN users u USING (tenant_id, user_id)
JOIN tenants t USING (tenant_id)
LEFT JOIN facts n ON n.tenant_id = f.tenant_id AND n.fact_id = f.superseded_by
ORDER BY f.tenant_id, f.user_id, f.subject, f.predicate, f.valid_from, f.fact_id
