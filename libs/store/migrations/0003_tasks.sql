-- Hot: a row changes with each of its steps. No index names a column that changes.
CREATE TABLE tasks (
    task_id           uuid       PRIMARY KEY,
    template_id       uuid       NOT NULL REFERENCES templates,
    namespace         text       NOT NULL,
    priority          smallint   NOT NULL,
    state             task_state NOT NULL,
    -- Whether somebody has asked to be told: its moves are announced.
    watched           boolean    NOT NULL DEFAULT false,
    -- How many steps are where: what a result changes, so that nothing counts them again.
    total             integer    NOT NULL,
    ready             integer    NOT NULL,
    in_flight         integer    NOT NULL DEFAULT 0,
    waiting_for_retry integer    NOT NULL DEFAULT 0,
    failed            integer    NOT NULL DEFAULT 0,
    satisfied         integer    NOT NULL DEFAULT 0,
    CONSTRAINT counts_are_of_steps CHECK (
        least(ready, in_flight, waiting_for_retry, failed, satisfied) >= 0
        AND ready + in_flight + waiting_for_retry + failed + satisfied <= total
    ),
    CONSTRAINT a_complete_task_has_only_satisfied_steps CHECK (
        state <> 'complete' OR satisfied = total
    ),
    CONSTRAINT a_complete_blocked_or_waiting_task_has_nothing_moving CHECK (
        state NOT IN ('complete', 'blocked_by_failures', 'waiting_for_dependencies')
        OR (ready = 0 AND in_flight = 0 AND waiting_for_retry = 0)
    )
) WITH (fillfactor = 50);

-- Cold: written once, read with each delivery.
CREATE TABLE task_details (
    task_id         uuid        PRIMARY KEY REFERENCES tasks,
    content_type    text        NOT NULL,
    context         bytea       NOT NULL,
    metadata        jsonb,
    idempotency_key text        NOT NULL,
    correlation_id  text        NOT NULL,
    requested_by    text        NOT NULL,
    reason          text        NOT NULL,
    -- Where the task's trace begins.
    traceparent     text        NOT NULL,
    tracestate      text        NOT NULL
);

-- When two submissions are the same: by request id, or by the template's identity strategy.
CREATE TABLE task_identities (
    identity bytea PRIMARY KEY,
    task_id  uuid  NOT NULL REFERENCES tasks
);

-- For lists: written when a task is born, blocks and ends.
CREATE TABLE task_search (
    task_id        uuid        PRIMARY KEY REFERENCES tasks,
    namespace      text        NOT NULL,
    name           text        NOT NULL,
    version        text        NOT NULL,
    correlation_id text        NOT NULL,
    -- Null while it moves; else its state, being blocked or an end.
    rests_in       task_state,
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz
);

CREATE INDEX task_search_by_template ON task_search (namespace, name, task_id);
CREATE INDEX task_search_by_rest ON task_search (rests_in, task_id);
CREATE INDEX task_search_by_correlation ON task_search (correlation_id, task_id) WHERE correlation_id <> '';
