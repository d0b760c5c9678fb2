-- What do people say about themselves?
--
-- The predicates of facts, by how many there are: how sure the enricher was on average, of how many users it is known,
-- and how many of them still hold.
SELECT predicate,
       count(*) AS facts,
       count(DISTINCT user_id) AS users,
       round(avg(confidence), 2) AS confidence,
       count(*) FILTER (is_active AND valid_to IS NULL) AS still_true,
       any_value(statement ORDER BY valid_from, fact_id) AS first_example
FROM mart_fact_catalogue
WHERE NOT negated
GROUP BY predicate
ORDER BY facts DESC, predicate
LIMIT 12
