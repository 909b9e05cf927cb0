-- What the queues between the stages hold: one function for each kind of message, so that all who send it
-- say all of it. libs/store/src/messages.rs reads them; a test holds both to the same fields.
--
-- No argument has a default: a new field has every statement decide what it is there. Each is used once,
-- and no function is strict: PostgreSQL puts the expression in the place of the call.

-- In `orchestration_ready_steps`: a step whose dependencies are all satisfied.
-- `declared`: of the worker of a batch, the step of the template that it is a run of.
CREATE FUNCTION ready_step(
    task_id uuid, ordinal integer, namespace text, template_id uuid, priority smallint, declared integer
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT jsonb_strip_nulls(jsonb_build_object('task_id', task_id, 'ordinal', ordinal,
    'namespace', namespace, 'template_id', template_id, 'priority', priority, 'declared', declared))
$$;

-- In `worker_<namespace>_queue`: a step that waits for a worker.
CREATE FUNCTION waiting_step(
    task_id uuid, ordinal integer, template_id uuid, priority smallint, callable text, declared integer
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT jsonb_strip_nulls(jsonb_build_object('task_id', task_id, 'ordinal', ordinal,
    'template_id', template_id, 'priority', priority, 'callable', callable, 'declared', declared))
$$;

-- In `orchestration_step_results`: a result that is stored and waits to be judged.
CREATE FUNCTION queued_result(
    task_id uuid, ordinal integer, delivery_id uuid, attempt integer, failed boolean, error_type text,
    retryable boolean, worker_id text, at_once boolean, says boolean, retry_after_ms bigint
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT jsonb_strip_nulls(jsonb_build_object('task_id', task_id, 'ordinal', ordinal,
    'delivery_id', delivery_id, 'attempt', attempt, 'failed', failed, 'error_type', error_type,
    'retryable', retryable, 'worker_id', worker_id, 'at_once', at_once, 'says', says,
    'retry_after_ms', retry_after_ms))
$$;

-- In `orchestration_task_finalizations`: a task in which nothing moves any more.
CREATE FUNCTION finalization(task_id uuid) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT jsonb_build_object('task_id', task_id)
$$;

-- Beside the body of each: the span that sent it.
CREATE FUNCTION trace_headers(traceparent text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT jsonb_build_object('traceparent', traceparent)
$$;

-- For sql/limit_grants/purge.sql: what no rate counts any more is found without reading the others.
CREATE INDEX limit_grants_by_end ON limit_grants (counts_until);

-- The templates that are paused, for a look at one of them by its id. The templates come first, however few
-- pauses there were when a statement was planned: `paused_templates` may be read from the pauses on. While
-- nothing is paused, one look says so for all rows of a statement.
CREATE VIEW paused_templates_by_id AS
SELECT template_id FROM templates
WHERE (SELECT true FROM pauses WHERE task_id IS NULL AND resumed_at IS NULL LIMIT 1) AND (
    SELECT true FROM pauses
    WHERE task_id IS NULL AND resumed_at IS NULL
      AND (pauses.namespace, pauses.name) = (templates.namespace, templates.name)
      AND pauses.version IN ('', templates.version)
    LIMIT 1
);
