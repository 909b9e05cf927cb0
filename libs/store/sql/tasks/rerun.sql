-- Gives birth to a task that runs an older one again from a step on: Start, ReadyStepsFound. What it keeps of
-- the older is born satisfied, by the operator's hand: CompleteManually with the older's result,
-- ResolveManually, or Fail of a batch's worker whose failure counts as done. Decisions and plans that are
-- kept keep what they said. The caller holds the older task. Returns the messages sent.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($8::integer[], $9::integer[], $10::text[]::step_state[], $11::integer[])
        AS item (ordinal, declared, kept, unmet)
), born AS (
    INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready, satisfied)
    SELECT $2, template_id, namespace, priority, 'enqueuing_steps', counted.steps, counted.ready, counted.satisfied
    FROM tasks CROSS JOIN (
        SELECT count(*) AS steps, count(*) FILTER (WHERE kept IS NULL AND unmet = 0) AS ready,
            count(kept) AS satisfied
        FROM item
    ) AS counted
    WHERE task_id = $1
    RETURNING task_id, template_id, namespace, priority
), detailed AS (
    INSERT INTO task_details (task_id, content_type, context, metadata, idempotency_key,
        correlation_id, requested_by, reason, traceparent, tracestate)
    SELECT $2, coalesce($3, content_type), CASE WHEN $3 IS NULL THEN context ELSE $4 END,
        CASE WHEN $3 IS NULL THEN metadata ELSE $5::jsonb END, idempotency_key,
        correlation_id, $6, coalesce($7, ''), $12, $13
    FROM task_details WHERE task_id = $1
), identified AS (
    INSERT INTO task_identities (identity, task_id)
    SELECT $14::bytea, $2 WHERE $14::bytea IS NOT NULL
), searchable AS (
    INSERT INTO task_search (task_id, namespace, name, version, correlation_id)
    SELECT $2, namespace, name, version, correlation_id FROM task_search WHERE task_id = $1
), linked AS (
    INSERT INTO task_reruns (task_id, rerun_of, from_step) VALUES ($2, $1, $15)
), limited AS (
    -- Whoever looks at it forgets it if its template limits nothing.
    INSERT INTO limited_tasks (task_id, look_at) VALUES ($2, now())
), step AS MATERIALIZED (
    SELECT item.ordinal, item.declared, steps.name, max_attempts, declaration.plain, kept, unmet,
        CASE WHEN item.declared <> item.ordinal THEN item.declared END AS run_of
    FROM item
    JOIN template_steps AS declaration
        ON (declaration.template_id, declaration.ordinal) = ((SELECT template_id FROM born), item.declared)
    JOIN (SELECT ordinal, name FROM steps WHERE task_id = $1) AS steps ON steps.ordinal = item.ordinal
), laid_out AS (
    INSERT INTO steps (task_id, ordinal, declared, name, state, unmet_dependencies, max_attempts, plain)
    SELECT $2, ordinal, run_of, name, coalesce(kept, 'pending'), unmet, max_attempts, plain FROM step
), copied AS (
    INSERT INTO step_results (task_id, ordinal, attempt, content_type, data, metadata, error_type,
        error_message, retryable)
    SELECT $2, ordinal, attempt, content_type, data, result.metadata, error_type, error_message, retryable
    FROM step JOIN step_results AS result USING (ordinal)
    WHERE result.task_id = $1
      AND (kept = 'complete' AND data IS NOT NULL OR kept = 'error' AND error_type IS NOT NULL)
), said AS (
    INSERT INTO step_expansions (task_id, ordinal, said, taken)
    SELECT $2, ordinal, said, true
    FROM step JOIN step_expansions AS expansion USING (ordinal)
    WHERE expansion.task_id = $1 AND kept = 'complete' AND taken
), batched AS (
    INSERT INTO step_batches (task_id, ordinal, batch, content_type, cursor, metadata, passed_over)
    SELECT $2, ordinal, batch, content_type, cursor, batches.metadata, coalesce(kept = 'error', false)
    FROM step JOIN step_batches AS batches USING (ordinal)
    WHERE batches.task_id = $1
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor, reason)
    SELECT task_id, '{Start,ReadyStepsFound}', 'enqueuing_steps', $16, $7 FROM born
), step_history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT $2, ordinal,
        CASE kept
            WHEN 'complete' THEN '{CompleteManually}'
            WHEN 'error' THEN '{Fail}'
            ELSE '{ResolveManually}'
        END::step_event[],
        kept, 0, $16, 'as in task ' || $1::text
    FROM step WHERE kept IS NOT NULL
)
INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
SELECT clock_timestamp(),
    ready_step(task_id, ordinal, namespace, template_id, priority, run_of),
    trace_headers($12::text)
FROM step CROSS JOIN born
WHERE kept IS NULL AND unmet = 0
RETURNING msg_id AS message_id, message, headers
