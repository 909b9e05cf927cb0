-- Puts a task among the dead letters by hand, with how it stands now. If it has a pending entry, that one stays
-- as it is, and is returned; if the request has made one before, of whatever task, that one. Nothing if there is
-- no such task.
WITH asked AS MATERIALIZED (
    SELECT uuid_v7() AS entry_id
), made AS (
    SELECT entry_id, task_id FROM task_dead_letters WHERE request_id = nullif($4, '')
), pending AS (
    INSERT INTO task_dead_letters (entry_id, task_id, namespace, priority, reason, detail, actor, snapshot, request_id)
    SELECT asked.entry_id, task_id, namespace, priority, 'manual', $2, $3, task_snapshot(task_id, state), nullif($4, '')
    FROM tasks CROSS JOIN asked WHERE task_id = $1 AND NOT EXISTS (SELECT FROM made)
    -- Changes nothing, but returns what is in the way, and waits for whoever is about to resolve it.
    ON CONFLICT (task_id) WHERE status = 'pending' DO UPDATE SET status = task_dead_letters.status
    RETURNING entry_id, task_id, request_id
)
SELECT entry_id AS "entry_id!", task_id AS "task_id!", true AS "by_request!" FROM made
UNION ALL
SELECT entry_id, task_id, entry_id = (SELECT entry_id FROM asked) OR coalesce(request_id = $4, false) FROM pending
