-- What is known of a user of the transaction's tenant, and what their roles allow.
SELECT u.tenant_id, u.display_name, u.email, u.status AS user_status, t.status AS tenant_status,
       ARRAY(SELECT DISTINCT p.permission
             FROM user_roles r
             JOIN role_permissions p USING (role)
             WHERE r.tenant_id = u.tenant_id AND r.user_id = u.user_id
             ORDER BY p.permission) AS permissions
FROM users u
JOIN tenants t USING (tenant_id)
WHERE u.tenant_id = %(tenant_id)s AND u.user_id = %(user_id)s
