-- Has nothing wait any more for workers of batches that fail for good, where their templates say
-- `continue_on_failure`. Runs in the transaction that takes these failures, before they are taken.
-- The caller has locked the tasks. Returns the messages sent.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::text[])
        AS item (task_id, ordinal, declared, traceparent)
), marked AS (
    UPDATE step_batches SET passed_over = true
    FROM item WHERE (step_batches.task_id, step_batches.ordinal) = (item.task_id, item.ordinal)
), met AS (
    -- Counted first: an UPDATE that joins a child to two parents would take off only one.
    SELECT task_id, child, count(*)::integer AS parents, max(traceparent) AS traceparent
    FROM item JOIN tasks USING (task_id)
    JOIN template_dependencies AS dependency
        ON (dependency.template_id, parent) = (tasks.template_id, declared)
    GROUP BY task_id, child
), unlocked AS (
    UPDATE steps SET unmet_dependencies = unmet_dependencies - met.parents
    FROM met
    WHERE (steps.task_id, steps.ordinal) = (met.task_id, met.child)
    RETURNING steps.task_id, steps.ordinal, met.traceparent,
        steps.state = 'pending' AND steps.unmet_dependencies = 0 AS ready
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, NULL),
        trace_headers(traceparent)
    FROM unlocked JOIN tasks USING (task_id)
    WHERE unlocked.ready
    RETURNING msg_id, message, headers
), counted AS (
    UPDATE tasks SET ready = tasks.ready + change.steps
    FROM (SELECT task_id, count(*)::integer AS steps FROM unlocked WHERE ready GROUP BY task_id) AS change
    WHERE tasks.task_id = change.task_id
)
SELECT msg_id AS "message_id!", message AS "message!", headers FROM ready
