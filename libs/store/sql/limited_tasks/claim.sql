-- Takes tasks that it is time to look at, and hides them from other replicas for a while. Until when they are
-- hidden is the claim: a task that is reopened meanwhile, or claimed again, is hidden until then no more.
WITH due AS (
    SELECT task_id FROM limited_tasks WHERE look_at <= now()
    ORDER BY look_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE limited_tasks SET look_at = now() + $2::bigint * interval '1 ms'
FROM due WHERE limited_tasks.task_id = due.task_id
RETURNING limited_tasks.task_id, limited_tasks.look_at
