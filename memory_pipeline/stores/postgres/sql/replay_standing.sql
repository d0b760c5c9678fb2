-- Whether a buffered request may still be written: what became of it before, and how its tenant, user and identity stand.
SELECT
    EXISTS (SELECT FROM memory_jobs j WHERE j.tenant_id = %(tenant_id)s AND j.job_id = %(entry_id)s) AS settled,
    (SELECT t.status FROM tenants t WHERE t.tenant_id = %(tenant_id)s) AS tenant,
    (SELECT u.status FROM users u WHERE u.tenant_id = %(tenant_id)s AND u.user_id = %(user_id)s) AS "user",
    (SELECT i.state FROM identities i
     WHERE i.issuer = %(issuer)s AND i.subject = %(subject)s
       AND i.tenant_id = %(tenant_id)s AND i.user_id = %(user_id)s) AS identity
