-- Which of the conditions for running a plugin hold for a user of the tenant. One row, whatever is asked.
SELECT r.plugin IS NOT NULL AS registered,
       coalesce(r.enabled, false) AS enabled,
       EXISTS (SELECT FROM plugin_installs i
               WHERE i.tenant_id = %(tenant_id)s AND i.plugin = asked.plugin) AS installed,
       EXISTS (SELECT FROM user_roles u JOIN role_permissions p USING (role)
               WHERE u.tenant_id = %(tenant_id)s AND u.user_id = %(user_id)s
                 AND p.permission = 'plugins:run:' || asked.plugin) AS permitted
FROM (VALUES (%(plugin)s::text)) AS asked (plugin)
LEFT JOIN plugin_registry r ON r.plugin = asked.plugin
