-- Puts a task among the dead letters by hand, with how it stands now. If it has a pending entry, that one stays
-- as it is, and is returned; if the request has made one before, of whatever task, that one. Nothing if there is
-- no such task.
WITH made AS (
    SELECT entry_id, task_id FROM task_dead_letters WHERE request_id = nullif($5, '')
), pending AS (
    INSERT INTO task_dead_letters (entry_id, task_id, namespace, priority, reason, detail, actor, snapshot, request_id)
    SELECT $2, task_id, namespace, priority, 'manual', $3, $4, task_snapshot(task_id, state), nullif($5, '')
    FROM tasks WHERE task_id = $1 AND NOT EXISTS (SELECT FROM made)
    -- Changes nothing, but returns what is in the way, and waits for whoever is about to resolve it.
    ON CONFLICT (task_id) WHERE status = 'pending' DO UPDATE SET status = task_dead_letters.status
    RETURNING entry_id, task_id, request_id
)
SELECT entry_id AS "entry_id!", task_id AS "task_id!", true AS "by_request!" FROM made
UNION ALL
SELECT entry_id, task_id, entry_id = $2 OR coalesce(request_id = $5, false) FROM pending
