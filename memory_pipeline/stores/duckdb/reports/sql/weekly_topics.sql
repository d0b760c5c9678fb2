-- Top entities and topics of each week, without those that facts of one user alone name: they would say who said what.
-- A week counts as within the days asked for if a day of it is.
SELECT week, kind, rank, rank_shared, name, facts, users
FROM mart_weekly_topics
WHERE tenant_id = $tenant_id AND week BETWEEN date_trunc('week', $first_day::DATE) AND $last_day AND rank_shared <= 20
ORDER BY week DESC, kind, rank_shared
LIMIT $rows
