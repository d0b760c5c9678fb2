-- A user's memories in the order of time (ids begin with it): what full text searches, and the newest conversation.
-- Row-level security rules out memories_by_text for memory_app: `@@` is not leakproof, so Postgres may not run it on
-- rows that the policy has not passed yet.
CREATE INDEX memories_by_user ON memories (tenant_id, user_id, memory_id);
