-- Takes tasks that it is time to look at, and hides them from other replicas for a while.
WITH due AS (
    SELECT task_id FROM limited_tasks WHERE look_at <= now()
    ORDER BY look_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE limited_tasks SET look_at = now() + $2::bigint * interval '1 ms'
FROM due WHERE limited_tasks.task_id = due.task_id
RETURNING limited_tasks.task_id
