-- Brings steps into being that a decision has chosen or a plan has asked for. Runs in the transaction that
-- takes the result which says so, before it unlocks its dependants: these steps are then unlocked like any
-- other. The caller has locked the tasks. Returns the messages sent, of what waits for nothing. What is ready
-- is counted by the caller, if it is not here.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::integer[],
        $6::text[], $7::bytea[], $8::jsonb[], $9::text[]
    ) AS item (
        task_id, ordinal, declared, unmet,
        -- Of the worker of a batch: which it is, and what it works on.
        batch, content_type, cursor, metadata,
        traceparent
    )
), born AS MATERIALIZED (
    SELECT item.*, tasks.namespace, tasks.template_id, tasks.priority, max_attempts, plain,
        declaration.name || coalesce('_' || batch, '') AS name
    FROM item JOIN tasks USING (task_id)
    JOIN template_steps AS declaration
        ON (declaration.template_id, declaration.ordinal) = (tasks.template_id, item.declared)
), laid_out AS (
    INSERT INTO steps (task_id, ordinal, declared, name, unmet_dependencies, max_attempts, plain, born_at)
    SELECT task_id, ordinal, CASE WHEN batch IS NOT NULL THEN declared END, name, unmet, max_attempts,
        plain, now()
    FROM born
), batched AS (
    INSERT INTO step_batches (task_id, ordinal, batch, content_type, cursor, metadata)
    SELECT task_id, ordinal, batch, content_type, cursor, metadata FROM born WHERE batch IS NOT NULL
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority,
            CASE WHEN batch IS NOT NULL THEN declared END),
        trace_headers(traceparent)
    FROM born WHERE unmet = 0
    RETURNING msg_id, message, headers
), counted AS (
    UPDATE tasks
    SET total = total + change.born, ready = CASE WHEN $13 THEN tasks.ready + change.ready ELSE tasks.ready END
    FROM (
        SELECT task_id, count(*)::integer AS born, count(*) FILTER (WHERE unmet = 0)::integer AS ready
        FROM born GROUP BY task_id
    ) AS change
    WHERE tasks.task_id = change.task_id
), said AS (
    INSERT INTO step_expansions (task_id, ordinal, said, taken)
    SELECT task_id, ordinal, said, true
    FROM unnest($10::uuid[], $11::integer[], $12::bytea[]) AS item (task_id, ordinal, said)
    ON CONFLICT (task_id, ordinal) DO UPDATE SET said = EXCLUDED.said, taken = true
)
SELECT msg_id AS "message_id!", message AS "message!", headers FROM ready
