-- Counts anew what is held of tasks, and has them stand where that leaves them: an older version has held or
-- begun steps without counting them. What is held of steps that have moved on is forgotten. The caller holds the
-- tasks. Returns those that were counted wrongly.
WITH held AS MATERIALIZED (
    SELECT task_id, ordinal, steps.state IN ('pending', 'enqueued') AND NOT is_end(tasks.state) AS waits,
        steps.state = 'pending' AND unmet_dependencies = 0 AND NOT is_end(tasks.state) AS counts
    FROM held_steps JOIN tasks USING (task_id) JOIN steps USING (task_id, ordinal)
    WHERE task_id = ANY($1::uuid[])
), forgotten AS (
    DELETE FROM held_steps
    WHERE task_id = ANY($1) AND (task_id, ordinal) IN (SELECT task_id, ordinal FROM held WHERE NOT waits)
), judged AS MATERIALIZED (
    SELECT task_id, state AS before, counted.held, CASE
        WHEN ready > counted.held AND state = 'evaluating_results' THEN 'ReadyStepsFound'
        WHEN ready > counted.held AND state <> 'enqueuing_steps' THEN 'RetryReady'
        WHEN ready > counted.held OR state <> 'enqueuing_steps' THEN NULL
        WHEN in_flight > 0 THEN 'StepsEnqueued'
        WHEN waiting_for_retry > 0 THEN 'RetryPending'
        ELSE 'NoDependenciesReady'
    END::task_event AS event
    FROM tasks CROSS JOIN LATERAL (
        SELECT count(*)::integer AS held FROM held WHERE held.task_id = tasks.task_id AND counts
    ) AS counted
    WHERE task_id = ANY($1)
), moved AS (
    UPDATE tasks
    SET held = judged.held, state = coalesce(task_state_after(tasks.state, event), tasks.state)
    FROM judged
    WHERE tasks.task_id = judged.task_id
      AND (tasks.held <> judged.held OR task_state_after(tasks.state, event) IS NOT NULL)
    RETURNING tasks.task_id, tasks.state, tasks.watched, before, event
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id, ARRAY[event], state, $2 FROM moved WHERE state <> before
)
SELECT task_id AS "task_id!" FROM moved
