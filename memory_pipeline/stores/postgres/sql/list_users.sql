-- Users, with their roles and how many logins are linked to each.
SELECT t.slug AS tenant, u.user_id, u.email, u.display_name, u.status,
       ARRAY(SELECT r.role FROM user_roles r
             WHERE (r.tenant_id, r.user_id) = (u.tenant_id, u.user_id) ORDER BY r.role) AS roles,
       (SELECT count(*) FROM identities i
        WHERE (i.tenant_id, i.user_id) = (u.tenant_id, u.user_id) AND i.state = 'linked') AS identities
FROM users u
JOIN tenants t USING (tenant_id)
WHERE %(tenant)s::text IS NULL OR t.slug = %(tenant)s
ORDER BY t.slug, u.email
