-- Every fact with the interval in which it holds, and what took its place.
-- Key: tenant_id, fact_id
CREATE OR REPLACE TABLE mart_fact_catalogue AS
SELECT f.tenant_id, t.slug AS tenant, f.user_id, u.email, f.fact_id, f.statement, f.subject, f.predicate, f.object,
       f.negated, f.slot, f.confidence, f.valid_from, f.valid_to,
       date_diff('second', f.valid_from, f.valid_to) / 86400 AS valid_days,
       f.status = 'active' AS is_active,
       f.superseded_by, n.statement AS superseded_by_statement,
       f.source_message_id, f.enricher
FROM facts f
JOIN users u USING (tenant_id, user_id)
JOIN tenants t USING (tenant_id)
LEFT JOIN facts n ON n.tenant_id = f.tenant_id AND n.fact_id = f.superseded_by
ORDER BY f.tenant_id, f.user_id, f.subject, f.predicate, f.valid_from, f.fact_id;
COMMENT ON TABLE mart_fact_catalogue IS 'Every fact with the interval in which it holds, and what took its place.';
COMMENT ON COLUMN mart_fact_catalogue.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from facts.tenant_id
COMMENT ON COLUMN mart_fact_catalogue.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_fact_catalogue.user_id IS 'User whose memory it is; key of users within the tenant.'; -- UUID from facts.user_id
COMMENT ON COLUMN mart_fact_catalogue.email IS 'E-mail of the user, in lower case.'; -- VARCHAR from users.email
COMMENT ON COLUMN mart_fact_catalogue.fact_id IS 'Key within the tenant; key of facts.'; -- UUID from facts.fact_id
COMMENT ON COLUMN mart_fact_catalogue.statement IS 'The fact as a sentence that can be read alone.'; -- VARCHAR from facts.statement
COMMENT ON COLUMN mart_fact_catalogue.subject IS 'Who or what the fact is about.'; -- VARCHAR from facts.subject
COMMENT ON COLUMN mart_fact_catalogue.predicate IS 'What is said of the subject.'; -- VARCHAR from facts.predicate
COMMENT ON COLUMN mart_fact_catalogue.object IS 'What the predicate points to.'; -- VARCHAR from facts.object
COMMENT ON COLUMN mart_fact_catalogue.negated IS 'True where the statement says that it is not so.'; -- BOOLEAN from facts.negated
COMMENT ON COLUMN mart_fact_catalogue.slot IS 'What can be true only once at a time for the subject; a later fact in it supersedes the earlier.'; -- VARCHAR from facts.slot
COMMENT ON COLUMN mart_fact_catalogue.confidence IS '0 to 1: how likely a careful reader would agree.'; -- FLOAT from facts.confidence
COMMENT ON COLUMN mart_fact_catalogue.valid_from IS 'From when the statement holds, as far as known.'; -- TIMESTAMPTZ from facts.valid_from
COMMENT ON COLUMN mart_fact_catalogue.valid_to IS 'Until when the statement holds; NULL: open.'; -- TIMESTAMPTZ from facts.valid_to
COMMENT ON COLUMN mart_fact_catalogue.valid_days IS 'How many days it held; NULL: it still does.'; -- DOUBLE from facts.valid_from, facts.valid_to
COMMENT ON COLUMN mart_fact_catalogue.is_active IS 'True where no later fact took its place.'; -- BOOLEAN from facts.status
COMMENT ON COLUMN mart_fact_catalogue.superseded_by IS 'Memory that took its place, if any.'; -- UUID from facts.superseded_by
COMMENT ON COLUMN mart_fact_catalogue.superseded_by_statement IS 'The statement of the fact that took its place.'; -- VARCHAR from facts.statement
COMMENT ON COLUMN mart_fact_catalogue.source_message_id IS 'Message the fact was found in; key of messages within the tenant.'; -- UUID from facts.source_message_id
COMMENT ON COLUMN mart_fact_catalogue.enricher IS 'name@version of the enricher that made it or has read it.'; -- VARCHAR from facts.enricher
