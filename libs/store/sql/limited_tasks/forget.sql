-- Forgets tasks that have ended, or whose template limits nothing, by whose claim they were looked at. One that
-- an operator has reopened since is claimed by nobody: its limits count anew.
DELETE FROM limited_tasks
USING unnest($1::uuid[], $2::timestamptz[]) AS claim (task_id, until)
WHERE limited_tasks.task_id = claim.task_id AND limited_tasks.look_at = claim.until
