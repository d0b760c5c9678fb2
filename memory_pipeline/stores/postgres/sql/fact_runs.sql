-- The same facts, each with what ends it and the first of those that say the same until then.
CREATE TEMPORARY TABLE fact_run ON COMMIT DROP AS
SELECT f.tenant_id, f.memory_id, f.day, f.stated_valid_to, ender.memory_id AS ended_by, ender.valid_from AS ended_at,
       CASE WHEN f.counts THEN first_value(f.memory_id) OVER (
           PARTITION BY f.counts, f.slot_number, f.value, f.denied, f.end_place ORDER BY f.place) END AS first_of_run
FROM fact_place f
LEFT JOIN fact_place ender ON ender.place = f.end_place
