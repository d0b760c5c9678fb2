-- Which users write most, and of whom is how much known?
--
-- Facts grow with what people tell of themselves, not with how much they write: compare the two columns.
SELECT tenant, email,
       sum(user_messages)::BIGINT AS user_messages,
       count(*) FILTER (user_messages > 0) AS days,
       sum(facts)::BIGINT AS facts
FROM mart_user_daily
GROUP BY tenant, email
ORDER BY user_messages DESC, tenant, email
LIMIT 20
