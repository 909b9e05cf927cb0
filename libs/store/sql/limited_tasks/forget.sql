-- Forgets tasks that have ended, or whose template limits nothing.
DELETE FROM limited_tasks WHERE task_id = ANY($1::uuid[])
