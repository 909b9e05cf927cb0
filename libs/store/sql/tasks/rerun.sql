-- Gives birth to a task that runs an older one again from a step on: Start, ReadyStepsFound. What it keeps of
-- the older is born satisfied, by the operator's hand: CompleteManually with the older's result,
-- ResolveManually. The caller holds the older task. Returns the messages sent.
WITH born AS (
    INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready, satisfied)
    SELECT $2, template_id, namespace, priority, 'enqueuing_steps', total,
        (SELECT count(*) FROM unnest($9::text[], $10::integer[]) AS step (kept, unmet)
            WHERE kept IS NULL AND unmet = 0),
        (SELECT count(kept) FROM unnest($9::text[]) AS kept)
    FROM tasks WHERE task_id = $1
    RETURNING task_id, template_id, namespace, priority
), detailed AS (
    INSERT INTO task_details (task_id, content_type, context, metadata, idempotency_key,
        correlation_id, requested_by, reason, traceparent, tracestate)
    SELECT $2, coalesce($3, content_type), CASE WHEN $3 IS NULL THEN context ELSE $4 END,
        CASE WHEN $3 IS NULL THEN metadata ELSE $5::jsonb END, idempotency_key,
        correlation_id, $6, coalesce($7, ''), $11, $12
    FROM task_details WHERE task_id = $1
), identified AS (
    INSERT INTO task_identities (identity, task_id)
    SELECT $13::bytea, $2 WHERE $13::bytea IS NOT NULL
), searchable AS (
    INSERT INTO task_search (task_id, namespace, name, version, correlation_id)
    SELECT $2, namespace, name, version, correlation_id FROM task_search WHERE task_id = $1
), linked AS (
    INSERT INTO task_reruns (task_id, rerun_of, from_step) VALUES ($2, $1, $14)
), limited AS (
    -- Whoever looks at it forgets it if its template limits nothing.
    INSERT INTO limited_tasks (task_id, look_at) VALUES ($2, now())
), step AS MATERIALIZED (
    SELECT ordinal, name, max_attempts, plain, kept, unmet
    FROM unnest($8::integer[], $9::text[]::step_state[], $10::integer[]) AS step (ordinal, kept, unmet)
    JOIN template_steps USING (ordinal)
    WHERE template_id = (SELECT template_id FROM born)
), laid_out AS (
    INSERT INTO steps (task_id, ordinal, name, state, unmet_dependencies, max_attempts, plain)
    SELECT $2, ordinal, name, coalesce(kept, 'pending'), unmet, max_attempts, plain FROM step
), copied AS (
    INSERT INTO step_results (task_id, ordinal, attempt, content_type, data, metadata)
    SELECT $2, ordinal, attempt, content_type, data, result.metadata
    FROM step JOIN step_results AS result USING (ordinal)
    WHERE result.task_id = $1 AND kept = 'complete' AND data IS NOT NULL
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor, reason)
    SELECT task_id, '{Start,ReadyStepsFound}', 'enqueuing_steps', $15, $7 FROM born
), step_history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT $2, ordinal,
        CASE kept WHEN 'complete' THEN '{CompleteManually}' ELSE '{ResolveManually}' END::step_event[],
        kept, 0, $15, 'as in task ' || $1::text
    FROM step WHERE kept IS NOT NULL
)
INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
SELECT clock_timestamp(),
    ready_step(task_id, ordinal, namespace, template_id, priority, NULL),
    trace_headers($11::text)
FROM step CROSS JOIN born
WHERE kept IS NULL AND unmet = 0
RETURNING msg_id AS message_id, message, headers
