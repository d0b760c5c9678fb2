-- What facts were about most, week by week: entities (their objects) and topics (their predicates), the first twenty of
-- each per tenant, and the first twenty of those that facts of more than one user name. A subject is no entity: it is
-- mostly who speaks, and of others a first name, which means another person to every user.
-- Key: week, tenant_id, kind, name
CREATE OR REPLACE TABLE mart_weekly_topics AS
WITH named AS (
    -- Objects without regard to case, as facts replace one another.
    SELECT tenant_id, day, user_id, 'entity' AS kind, lower(object) AS what, object AS name FROM facts
    UNION ALL
    SELECT tenant_id, day, user_id, 'topic', predicate, predicate FROM facts
), spelled AS (
    SELECT date_trunc('week', day)::DATE AS week, tenant_id, kind, what, name, user_id, count(*) AS facts
    FROM named
    GROUP BY ALL
), counted AS (
    SELECT week, tenant_id, kind, mode(name ORDER BY name) AS name, sum(facts)::BIGINT AS facts,
           count(DISTINCT user_id) AS users
    FROM spelled
    GROUP BY week, tenant_id, kind, what
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY week, tenant_id, kind ORDER BY facts DESC, name) AS rank,
           CASE WHEN users > 1
                THEN row_number() OVER (PARTITION BY week, tenant_id, kind, users > 1 ORDER BY facts DESC, name)
           END AS rank_shared
    FROM counted
)
SELECT r.week, r.tenant_id, t.slug AS tenant, r.kind, r.rank, r.rank_shared, r.name, r.facts, r.users
FROM ranked r
JOIN tenants t USING (tenant_id)
WHERE r.rank <= 20 OR r.rank_shared <= 20
ORDER BY r.week, r.tenant_id, r.kind, r.rank;
COMMENT ON TABLE mart_weekly_topics IS 'Top entities and topics: the twenty that most facts of a week and tenant name, and the twenty of more than one user.';
COMMENT ON COLUMN mart_weekly_topics.week IS 'Monday of the week in which the facts were said.'; -- DATE from facts.day
COMMENT ON COLUMN mart_weekly_topics.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from facts.tenant_id
COMMENT ON COLUMN mart_weekly_topics.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_weekly_topics.kind IS 'entity (an object) or topic (a predicate).'; -- VARCHAR from facts.object, facts.predicate
COMMENT ON COLUMN mart_weekly_topics.rank IS '1 for what most facts name; ties by name. Above 20 only where rank_shared is not.'; -- BIGINT from facts.fact_id
COMMENT ON COLUMN mart_weekly_topics.rank_shared IS 'The same, counted among what facts of more than one user name; NULL: one user''s alone.'; -- BIGINT from facts.fact_id, facts.user_id
COMMENT ON COLUMN mart_weekly_topics.name IS 'The entity or topic; entities in upper and lower case count as one, and are spelled as most users do.'; -- VARCHAR from facts.object, facts.predicate
COMMENT ON COLUMN mart_weekly_topics.facts IS 'Facts that name it.'; -- BIGINT from facts.fact_id
COMMENT ON COLUMN mart_weekly_topics.users IS 'Users with such facts.'; -- BIGINT from facts.user_id
