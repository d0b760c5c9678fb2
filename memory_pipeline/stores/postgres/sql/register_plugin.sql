-- Adds a plugin, or brings its description and default up to date. `added` tells which; no row: it was so already.
INSERT INTO plugin_registry AS r (plugin, description, default_install)
VALUES (%(plugin)s, %(description)s, %(default_install)s)
ON CONFLICT (plugin) DO UPDATE SET description = excluded.description, default_install = excluded.default_install
    WHERE (r.description, r.default_install) IS DISTINCT FROM (excluded.description, excluded.default_install)
RETURNING (old.plugin IS NULL) AS added
