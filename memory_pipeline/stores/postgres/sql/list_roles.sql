-- Every role with what it allows and how many users have it.
SELECT r.role, r.description,
       (SELECT count(*) FROM user_roles u WHERE u.role = r.role) AS users,
       ARRAY(SELECT p.permission FROM role_permissions p WHERE p.role = r.role ORDER BY p.permission) AS permissions
FROM roles r
ORDER BY r.role
