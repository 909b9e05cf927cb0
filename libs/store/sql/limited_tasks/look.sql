-- Notes how tasks were found, and when to look at them again, by whose claim they were looked at. Returns those
-- that were not so before.
WITH looked AS (
    SELECT item.*, limited_tasks.health AS health_before
    FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[]) AS item (task_id, until, health, again_ms)
    JOIN limited_tasks USING (task_id)
    WHERE look_at = until
    ORDER BY task_id FOR NO KEY UPDATE OF limited_tasks
)
UPDATE limited_tasks
SET health = looked.health, look_at = now() + again_ms * interval '1 ms'
FROM looked WHERE limited_tasks.task_id = looked.task_id
RETURNING limited_tasks.task_id, looked.health <> health_before AS "changed!"
