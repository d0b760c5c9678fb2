RETURNING m.tenant_id, m.memory_id, m.day
