-- Puts tasks among the dead letters, with how each stands now. One that has an entry that is still
-- pending keeps it; one that lasts, and was put here for it before, is not put here again.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS item (task_id, reason, detail, lasted_ms)
), held AS MATERIALIZED (
    -- Judged under the lock: what was found to last does so no more if the task has ended since.
    SELECT item.*, tasks.namespace, tasks.priority, tasks.state
    FROM item JOIN tasks USING (task_id)
    WHERE lasted_ms IS NULL OR NOT is_end(tasks.state)
    ORDER BY task_id FOR NO KEY UPDATE OF tasks
)
INSERT INTO task_dead_letters (task_id, namespace, priority, reason, detail, actor, snapshot)
SELECT task_id, namespace, priority, reason::dead_letter_reason, detail, $5, task_snapshot(task_id, state)
FROM held
WHERE NOT EXISTS (
    SELECT FROM task_dead_letters AS known
    WHERE known.task_id = held.task_id AND known.reason = held.reason::dead_letter_reason
      AND known.created_at >= now() - lasted_ms * interval '1 ms'
)
ON CONFLICT (task_id) WHERE status = 'pending' DO NOTHING
RETURNING entry_id, task_id
