SELECT tenant_id, generation_id, model, dimension, collection_name, collection_uuid, state
FROM index_generations
WHERE tenant_id = %(tenant_id)s AND model = %(model)s AND state = %(state)s
ORDER BY created_at
