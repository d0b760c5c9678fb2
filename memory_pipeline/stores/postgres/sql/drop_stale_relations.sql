DELETE FROM memory_relationships r
WHERE r.detector = 'slot'
  AND ((r.tenant_id, r.to_id) IN (SELECT tenant_id, memory_id FROM fact_run)
       OR (r.tenant_id, r.from_id) IN (SELECT tenant_id, memory_id FROM fact_run)
       OR r.day >= %(start)s AND r.day < %(end)s)
  AND NOT EXISTS (
      SELECT FROM fact_run f
      WHERE f.tenant_id = r.tenant_id
        AND (r.kind = 'supersedes' AND f.memory_id = r.to_id AND f.ended_by = r.from_id
             OR r.kind = 'supports' AND f.memory_id = r.from_id AND f.first_of_run = r.to_id))
