DELETE FROM tenants
