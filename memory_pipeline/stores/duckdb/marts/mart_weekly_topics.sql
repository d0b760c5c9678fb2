-- What facts were about most, week by week: entities (their subjects and objects) and topics (their predicates), the first
-- twenty of each per tenant.
-- Key: week, tenant_id, kind, name
CREATE OR REPLACE TABLE mart_weekly_topics AS
WITH named AS (
    SELECT tenant_id, day, user_id, fact_id, 'entity' AS kind, subject AS name FROM facts
    UNION
    SELECT tenant_id, day, user_id, fact_id, 'entity', object FROM facts
    UNION ALL
    SELECT tenant_id, day, user_id, fact_id, 'topic', predicate FROM facts
), counted AS (
    SELECT date_trunc('week', day)::DATE AS week, tenant_id, kind, name, count(*) AS facts,
           count(DISTINCT user_id) AS users
    FROM named
    GROUP BY ALL
)
SELECT c.week, c.tenant_id, t.slug AS tenant, c.kind,
       row_number() OVER (PARTITION BY c.week, c.tenant_id, c.kind ORDER BY c.facts DESC, c.name) AS rank,
       c.name, c.facts, c.users
FROM counted c
JOIN tenants t USING (tenant_id)
QUALIFY rank <= 20
ORDER BY c.week, c.tenant_id, c.kind, rank;
COMMENT ON TABLE mart_weekly_topics IS 'Top entities and topics: the twenty that most facts of a week and tenant name.';
COMMENT ON COLUMN mart_weekly_topics.week IS 'Monday of the week in which the facts were said.'; -- DATE from facts.day
COMMENT ON COLUMN mart_weekly_topics.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from facts.tenant_id
COMMENT ON COLUMN mart_weekly_topics.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_weekly_topics.kind IS 'entity (a subject or object) or topic (a predicate).'; -- VARCHAR from facts.subject, facts.predicate
COMMENT ON COLUMN mart_weekly_topics.rank IS '1 for what most facts name; ties by name.'; -- BIGINT from facts.fact_id
COMMENT ON COLUMN mart_weekly_topics.name IS 'The entity or topic.'; -- VARCHAR from facts.subject, facts.object, facts.predicate
COMMENT ON COLUMN mart_weekly_topics.facts IS 'Facts that name it.'; -- BIGINT from facts.fact_id
COMMENT ON COLUMN mart_weekly_topics.users IS 'Users with such facts.'; -- BIGINT from facts.user_id
