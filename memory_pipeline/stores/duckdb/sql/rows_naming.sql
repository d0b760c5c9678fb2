SELECT count(*) FROM query_table($table) WHERE user_id = $user_id
