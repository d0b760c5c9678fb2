-- Every registered plugin: in how many tenants it is installed, whether in the one asked for (NULL where none is), and
-- which roles may run it.
SELECT r.plugin, r.description, r.enabled, r.default_install, r.costs,
       (SELECT count(*) FROM plugin_installs i WHERE i.plugin = r.plugin) AS tenants,
       CASE WHEN %(tenant_id)s::uuid IS NOT NULL THEN
           EXISTS (SELECT FROM plugin_installs i WHERE i.plugin = r.plugin AND i.tenant_id = %(tenant_id)s)
       END AS installed,
       ARRAY(SELECT p.role FROM role_permissions p
             WHERE p.permission = 'plugins:run:' || r.plugin ORDER BY p.role) AS roles
FROM plugin_registry r
ORDER BY r.plugin
