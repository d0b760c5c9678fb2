-- Adds a plugin, or brings what is said of it up to date. `costs` NULL leaves that as it is; a new one then costs nothing.
-- `added` tells which; no row: it was so already.
INSERT INTO plugin_registry AS r (plugin, description, default_install, costs)
VALUES (%(plugin)s, %(description)s, %(default_install)s, coalesce(%(costs)s, false))
ON CONFLICT (plugin) DO UPDATE
    SET description = excluded.description, default_install = excluded.default_install,
        costs = coalesce(%(costs)s, r.costs)
    WHERE (r.description, r.default_install, r.costs)
        IS DISTINCT FROM (excluded.description, excluded.default_install, coalesce(%(costs)s, r.costs))
RETURNING (old.plugin IS NULL) AS added
