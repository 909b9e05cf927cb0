-- Open tasks whose template limits how long they may take or wait. Deleted at a look after their end.
CREATE TABLE limited_tasks (
    task_id  uuid        PRIMARY KEY,
    -- Its birth, or when an operator reopened it.
    began_at timestamptz NOT NULL DEFAULT now(),
    -- Before that, none of its limits can be near.
    look_at  timestamptz NOT NULL,
    -- As it was found at the last look.
    health   text        NOT NULL DEFAULT 'healthy' CHECK (health IN ('healthy', 'warning', 'stale'))
);

-- For sql/limited_tasks/claim.sql.
CREATE INDEX limited_tasks_by_look ON limited_tasks (look_at);
-- For the list of stale tasks.
CREATE INDEX limited_tasks_by_health ON limited_tasks (task_id) WHERE health <> 'healthy';

-- What a worker can run, as it said when it opened its session.
ALTER TABLE worker_sessions
    ADD COLUMN namespaces text[] NOT NULL DEFAULT '{}',
    ADD COLUMN handlers   text[] NOT NULL DEFAULT '{}';

CREATE TYPE dead_letter_reason AS ENUM (
    'staleness', 'retries_exhausted', 'permanent_failure', 'impossible', 'worker_unavailable', 'manual',
    'poison_message'
);

CREATE TYPE dead_letter_status AS ENUM ('pending', 'manually_resolved', 'permanent_failure', 'cancelled');

-- A UUIDv7: never recurs, and sorts by time. Version 4 with a time in front, and another version.
CREATE FUNCTION uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
SELECT encode(set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid
$$;

-- Tasks that somebody has to look into.
CREATE TABLE task_dead_letters (
    entry_id    uuid               PRIMARY KEY DEFAULT uuid_v7(),
    task_id     uuid               NOT NULL,
    namespace   text               NOT NULL,
    priority    smallint           NOT NULL,
    reason      dead_letter_reason NOT NULL,
    -- For people: what is wrong.
    detail      text               NOT NULL,
    -- Who put it here.
    actor       text               NOT NULL,
    status      dead_letter_status NOT NULL DEFAULT 'pending',
    -- How the task stood, as task_snapshot has it.
    snapshot    jsonb              NOT NULL,
    created_at  timestamptz        NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    -- Who changed it last; empty for nobody.
    resolver    text               NOT NULL DEFAULT '',
    notes       text               NOT NULL DEFAULT '',
    CONSTRAINT what_is_not_pending_was_resolved_at_a_time CHECK (
        (resolved_at IS NULL) = (status = 'pending')
    )
);

CREATE UNIQUE INDEX a_task_has_one_pending_dead_letter ON task_dead_letters (task_id)
WHERE status = 'pending';
CREATE INDEX task_dead_letters_by_task ON task_dead_letters (task_id, reason);
-- For sql/task_dead_letters/purge.sql.
CREATE INDEX task_dead_letters_by_resolution ON task_dead_letters (resolved_at)
WHERE resolved_at IS NOT NULL;

-- How a task stands, for who looks into it: its steps, those that matter most first, at most 1,000, with
-- the last error of each. The state is given, since the calling statement may have just changed it.
CREATE FUNCTION task_snapshot(of_task uuid, stands_in task_state) RETURNS jsonb
LANGUAGE sql STABLE AS $$
SELECT jsonb_build_object(
    'taken_at', now(),
    'task', jsonb_build_object(
        'task_id', task_id, 'namespace', search.namespace, 'name', search.name, 'version', search.version,
        'state', stands_in, 'priority', priority, 'created_at', created_at, 'ended_at', ended_at,
        'correlation_id', correlation_id,
        'steps', jsonb_build_object('total', total, 'ready', ready, 'in_flight', in_flight,
            'waiting_for_retry', waiting_for_retry, 'failed', failed, 'satisfied', satisfied)
    ),
    'steps', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'name', name, 'state', state, 'attempt', attempt, 'max_attempts', max_attempts,
            'unmet_dependencies', unmet_dependencies, 'retry_at', retry_at,
            'error_type', error_type, 'error_message', left(error_message, 1000), 'retryable', retryable))
        FROM (
            SELECT steps.*, error_type, error_message, retryable
            FROM steps LEFT JOIN step_results USING (task_id, ordinal)
            WHERE steps.task_id = of_task
            ORDER BY steps.state = 'error' DESC, is_settled(steps.state), ordinal LIMIT 1000
        ) AS step
    ), '[]')
)
FROM tasks JOIN task_search AS search USING (task_id)
WHERE task_id = of_task
$$;

-- For sql/tasks/purge.sql.
CREATE INDEX task_search_by_end ON task_search (ended_at, task_id) WHERE ended_at IS NOT NULL;

-- How far the results of ended tasks have been purged: those that ended up to then, in this order.
CREATE TABLE purged_results (
    ended_at timestamptz NOT NULL,
    task_id  uuid        NOT NULL
);
CREATE UNIQUE INDEX there_is_one_mark ON purged_results ((true));
INSERT INTO purged_results (ended_at, task_id)
VALUES ('-infinity', '00000000-0000-0000-0000-000000000000');
