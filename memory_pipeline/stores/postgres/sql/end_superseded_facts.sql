UPDATE memories m SET
    status = CASE WHEN f.ended_by IS NULL THEN 'active' ELSE 'superseded' END,
    superseded_by = f.ended_by,
    valid_to = least(f.stated_valid_to, f.ended_at),
    version = m.version + 1,
    updated_at = now()
FROM fact_run f
WHERE m.tenant_id = f.tenant_id AND m.memory_id = f.memory_id AND m.status IN ('active', 'superseded')
  AND (m.superseded_by, m.valid_to, m.status) IS DISTINCT FROM
      (f.ended_by, least(f.stated_valid_to, f.ended_at), CASE WHEN f.ended_by IS NULL THEN 'active' ELSE 'superseded' END)
/*+ returning */
