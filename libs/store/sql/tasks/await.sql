-- Asks for a task's rest to be told, to more than one if others have asked before. Says whether that was asked
-- now, of a task on its way: else look where it stands. And what of the task never changes.
WITH asked AS (
    UPDATE tasks SET awaited = true, awaited_by_many = awaited
    WHERE task_id = $1 AND NOT awaited_by_many AND NOT watched
      AND NOT is_end(state) AND state <> 'blocked_by_failures'
    RETURNING task_id
)
SELECT EXISTS (SELECT FROM asked) AS "asked!", search.namespace, search.name, search.version,
    priority, created_at, correlation_id
FROM task_search AS search JOIN tasks USING (task_id)
WHERE task_id = $1
