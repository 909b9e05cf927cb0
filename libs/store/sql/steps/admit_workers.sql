-- Gives workers of batches the places that others leave. Runs in the transaction that takes the results of
-- those, before they are taken. The caller has locked the tasks, and names each batch once.
-- Returns the messages sent. Their tasks are counted anew by the caller, if they are not here.
WITH worker AS MATERIALIZED (
    SELECT batch.*, steps.ordinal, waits,
        count(*) FILTER (WHERE waits) OVER (of_batch ORDER BY steps.ordinal) AS turn,
        count(*) FILTER (WHERE NOT (waits OR is_settled(steps.state) OR steps.state = 'error'))
            OVER of_batch AS busy
    FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::text[])
        -- Workers have places from `first` on; `leaving` are those that end now.
        AS batch (task_id, declared, first, parallelism, leaving, traceparent)
    JOIN steps ON steps.task_id = batch.task_id
        AND steps.ordinal >= batch.first AND steps.declared = batch.declared
    CROSS JOIN LATERAL (SELECT steps.state = 'pending' AND unmet_dependencies > 0 AS waits) AS of_worker
    WINDOW of_batch AS (PARTITION BY batch.task_id, batch.declared)
), admitted AS (
    UPDATE steps SET unmet_dependencies = 0
    FROM worker
    WHERE (steps.task_id, steps.ordinal) = (worker.task_id, worker.ordinal)
      AND waits AND turn <= parallelism - (busy - leaving)
    RETURNING steps.task_id, steps.ordinal, steps.declared, worker.traceparent
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, declared),
        trace_headers(traceparent)
    FROM admitted JOIN tasks USING (task_id)
    RETURNING msg_id, message, headers
), counted AS (
    UPDATE tasks SET ready = ready + change.steps
    FROM (SELECT task_id, count(*)::integer AS steps FROM admitted GROUP BY task_id) AS change
    WHERE tasks.task_id = change.task_id AND $7
)
SELECT msg_id AS "message_id!", message AS "message!", headers FROM ready
