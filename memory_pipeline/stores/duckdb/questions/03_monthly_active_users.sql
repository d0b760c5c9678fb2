-- How many users wrote something in each month?
--
-- Users may not be added up over days: who wrote on two days would count twice. So they are counted per month, in
-- `mart_user_daily`, which has a row per user and day. The calendar `dim_days` brings months in which nobody wrote.
SELECT d.month,
       count(DISTINCT u.user_id) FILTER (u.user_messages > 0) AS active_users,
       coalesce(sum(u.user_messages), 0)::BIGINT AS user_messages,
       round(sum(u.user_messages) / nullif(count(DISTINCT u.user_id) FILTER (u.user_messages > 0), 0), 1)
           AS messages_per_user
FROM dim_days d
LEFT JOIN mart_user_daily u USING (day)
GROUP BY d.month
ORDER BY d.month
