-- Hot: a row changes with each move.
CREATE TABLE steps (
    task_id              uuid       NOT NULL REFERENCES tasks,
    -- Its place in the task: dependencies before dependants.
    ordinal              integer    NOT NULL,
    state                step_state NOT NULL DEFAULT 'pending',
    unmet_dependencies   integer    NOT NULL,
    attempt              integer    NOT NULL DEFAULT 0,
    max_attempts         integer    NOT NULL,
    -- The lease: never the same twice, so that a crash which undoes a Start cannot reissue it.
    delivery_id          uuid,
    -- Whose result was taken last.
    accepted_delivery_id uuid,
    -- Set by the database clock, and only ever compared with it.
    retry_at             timestamptz,
    name                 text       NOT NULL,
    PRIMARY KEY (task_id, ordinal),
    CONSTRAINT steps_in_progress_are_held CHECK (
        (delivery_id IS NOT NULL) = (state = 'in_progress')
    ),
    CONSTRAINT only_what_waits_for_retry_has_a_time_to CHECK (
        (retry_at IS NOT NULL) = (state = 'waiting_for_retry')
    ),
    CONSTRAINT a_dependency_is_met_once CHECK (unmet_dependencies >= 0),
    CONSTRAINT attempts_are_bounded CHECK (attempt BETWEEN 0 AND max_attempts)
) WITH (fillfactor = 60);

-- For sql/steps/retry.sql. With `state` in WHERE instead, no transition could be a HOT update.
CREATE INDEX steps_by_retry_time ON steps (retry_at) WHERE retry_at IS NOT NULL;

-- Written at birth: who waits for whom.
CREATE TABLE step_dependencies (
    task_id uuid    NOT NULL,
    parent  integer NOT NULL,
    child   integer NOT NULL,
    PRIMARY KEY (task_id, parent, child)
);

-- For what a delivery carries: the results of a step's parents.
CREATE INDEX step_dependencies_by_child ON step_dependencies (task_id, child);

-- The newest result of a step, good or bad.
CREATE TABLE step_results (
    task_id       uuid        NOT NULL,
    ordinal       integer     NOT NULL,
    attempt       integer     NOT NULL,
    -- Of a good result.
    content_type  text,
    data          bytea,
    metadata      jsonb,
    -- Of a failure.
    error_type    text,
    error_message text,
    retryable     boolean,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, ordinal),
    CONSTRAINT a_result_is_good_or_bad CHECK (
        (data IS NULL) = (error_type IS NOT NULL)
        AND (data IS NULL) = (content_type IS NULL)
        AND (error_type IS NULL) = (retryable IS NULL)
    )
);
