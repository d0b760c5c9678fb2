INSERT INTO memory_relationships (tenant_id, from_id, to_id, kind, confidence, detector, day)
SELECT f.tenant_id, f.ended_by, f.memory_id, 'supersedes', 1, 'slot', f.day FROM fact_run f WHERE f.ended_by IS NOT NULL
UNION ALL
SELECT f.tenant_id, f.memory_id, f.first_of_run, 'supports', 1, 'slot', f.day FROM fact_run f
WHERE f.memory_id <> f.first_of_run
ON CONFLICT DO NOTHING
