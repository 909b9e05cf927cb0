-- Puts a task among the dead letters by hand, with how it stands now. Nothing if it has a pending entry, or
-- the request has made one before, of whatever task.
INSERT INTO task_dead_letters (task_id, namespace, priority, reason, detail, actor, snapshot, request_id)
SELECT task_id, namespace, priority, 'manual', $2, $3, task_snapshot(task_id, state), nullif($4, '')
FROM tasks WHERE task_id = $1
ON CONFLICT DO NOTHING
RETURNING entry_id
