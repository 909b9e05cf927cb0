-- Limits: what they hold, and what is in use of them.

ALTER TYPE hold ADD VALUE 'limit';

ALTER TABLE held_steps
    -- Which limit holds it, as far as it was looked at, and for which value of the limit's key.
    ADD COLUMN limit_name text,
    ADD COLUMN limit_value text,
    -- The values of the keys of all its limits, in their order: an array of texts.
    ADD COLUMN limit_values jsonb,
    ADD CONSTRAINT what_a_limit_holds_names_it_and_its_values CHECK (
        (limit_name IS NULL) = (limit_value IS NULL) AND (limit_name IS NULL) = (limit_values IS NULL)
    );

-- For those that go next under each limit.
CREATE INDEX held_steps_by_limit
    ON held_steps (namespace, limit_name, limit_value, priority DESC, task_id, ordinal)
    WHERE limit_name IS NOT NULL;

-- Attempts that have begun under limits. One is in use while its attempt is: so what crashes gives back
-- what it had, and nothing has to be written when a step ends.
CREATE TABLE limit_grants (
    namespace    text        NOT NULL,
    limit_name   text        NOT NULL,
    -- Of its key; empty without one.
    limit_value  text        NOT NULL,
    task_id      uuid        NOT NULL,
    ordinal      integer     NOT NULL,
    attempt      integer     NOT NULL,
    granted_at   timestamptz NOT NULL,
    -- Until when a rate counts it.
    counts_until timestamptz NOT NULL
);

CREATE INDEX limit_grants_by_limit ON limit_grants (namespace, limit_name, limit_value, granted_at);
CREATE INDEX limit_grants_by_step ON limit_grants (task_id, ordinal);

-- Whether an attempt runs, or was given back to its queue before it began.
CREATE FUNCTION is_in_use(state step_state, attempt integer, granted integer) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT (state = 'in_progress' AND attempt = granted) OR (state = 'enqueued' AND attempt + 1 = granted)
$$;
