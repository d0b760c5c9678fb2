SELECT tenant_id, user_id, email, display_name, preferences, created_at
FROM users
ORDER BY tenant_id, user_id
