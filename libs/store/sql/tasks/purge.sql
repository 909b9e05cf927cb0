-- Forgets what tasks that ended long ago worked on and came to, in the order of their ends. The tasks
-- and their history stay, pauses among it. An empty content type, which nobody can give, says that a context was purged.
WITH mark AS MATERIALIZED (
    SELECT ended_at, task_id FROM purged_results FOR UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT task_search.task_id, task_search.ended_at
    FROM mark JOIN task_search ON (task_search.ended_at, task_search.task_id) > (mark.ended_at, mark.task_id)
    JOIN tasks ON tasks.task_id = task_search.task_id AND is_end(tasks.state)
    WHERE task_search.ended_at IS NOT NULL AND task_search.ended_at < now() - $1::integer * interval '1 day'
    ORDER BY task_search.ended_at, task_search.task_id LIMIT $2
), held AS MATERIALIZED (
    -- As by repairs and reruns: what is being copied stays until it is, and what was reset meanwhile stays. It
    -- ends anew, beyond the mark.
    SELECT task_id FROM tasks
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM due)) AND is_end(state)
    ORDER BY task_id FOR NO KEY UPDATE
), contexts AS (
    UPDATE task_details SET content_type = '', context = '', metadata = NULL
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM held))
), results AS (
    DELETE FROM step_results WHERE task_id = ANY(ARRAY(SELECT task_id FROM held))
), checkpoints AS (
    DELETE FROM step_checkpoints WHERE task_id = ANY(ARRAY(SELECT task_id FROM held))
), batches AS (
    DELETE FROM step_batches WHERE task_id = ANY(ARRAY(SELECT task_id FROM held))
), expansions AS (
    DELETE FROM step_expansions WHERE task_id = ANY(ARRAY(SELECT task_id FROM held))
), marked AS (
    UPDATE purged_results SET ended_at = last.ended_at, task_id = last.task_id
    FROM (SELECT ended_at, task_id FROM due ORDER BY ended_at DESC, task_id DESC LIMIT 1) AS last
)
SELECT count(*) AS "purged!" FROM held
