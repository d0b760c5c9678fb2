-- One page of the users of a tenant (NULL: of all) who have a role (NULL: any or none), after the user given.
SELECT u.tenant_id, u.user_id
FROM users u
WHERE (u.tenant_id, u.user_id) > (%(after_tenant_id)s, %(after_user_id)s)
  AND (%(tenant_id)s::uuid IS NULL OR u.tenant_id = %(tenant_id)s)
  AND (%(role)s::text IS NULL
       OR EXISTS (SELECT FROM user_roles r
                  WHERE r.tenant_id = u.tenant_id AND r.user_id = u.user_id AND r.role = %(role)s))
ORDER BY u.tenant_id, u.user_id
LIMIT %(page)s
