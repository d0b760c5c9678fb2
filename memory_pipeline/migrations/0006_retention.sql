-- What an export needs to leave out edges of deleted memories, which are few, without looking at all memories.
CREATE INDEX memories_deleted ON memories (tenant_id, memory_id) WHERE status = 'deleted';

-- Both were append-only but for the erasure of users: rows that are older than they are kept for go too.
GRANT DELETE ON memory_access_log, llm_usage TO memory_pipeline;
