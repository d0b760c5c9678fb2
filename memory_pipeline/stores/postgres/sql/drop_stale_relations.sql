-- Both ends of such a relation lie in one slot, and a fact never leaves its slot (it is part of its id).
DELETE FROM memory_relationships r
USING fact_run f
WHERE r.detector = 'slot' AND r.tenant_id = f.tenant_id AND r.from_id = f.memory_id
  AND NOT (r.kind = 'supports' AND r.to_id = f.first_of_run)
  AND NOT EXISTS (
      SELECT FROM fact_run ended
      WHERE r.kind = 'supersedes' AND ended.tenant_id = r.tenant_id AND ended.memory_id = r.to_id
        AND ended.ended_by = r.from_id)
