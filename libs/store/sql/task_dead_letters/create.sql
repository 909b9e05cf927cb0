-- Puts tasks among the dead letters, with how each stands now. One that has an entry that is still
-- pending keeps it; one that lasts, and was put here for it before, is not put here again.
INSERT INTO task_dead_letters (task_id, namespace, priority, reason, detail, actor, snapshot)
SELECT item.task_id, tasks.namespace, tasks.priority, item.reason::dead_letter_reason, item.detail, $5,
    task_snapshot(item.task_id, tasks.state)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS item (task_id, reason, detail, lasted_ms)
JOIN tasks USING (task_id)
WHERE NOT EXISTS (
    SELECT FROM task_dead_letters AS known
    WHERE known.task_id = item.task_id AND known.reason = item.reason::dead_letter_reason
      AND known.created_at >= now() - item.lasted_ms * interval '1 ms'
)
ON CONFLICT (task_id) WHERE status = 'pending' DO NOTHING
RETURNING entry_id, task_id
