-- Steps that come into being by what others have decided or planned.

-- Whether a task is born with it: no decision and no plan of a batch stands before it.
ALTER TABLE template_steps ADD COLUMN first boolean NOT NULL DEFAULT true;

-- Of a worker of a batch: the step of the template that it is a run of. Its own place is after those of
-- the template.
ALTER TABLE steps ADD COLUMN declared integer;

-- What the good result of a decision or batchable step says of what comes into being, as the contract
-- encodes it. Written when it is taken, or queued before.
CREATE TABLE step_expansions (
    task_id uuid    NOT NULL,
    ordinal integer NOT NULL,
    said    bytea   NOT NULL,
    taken   boolean NOT NULL,
    PRIMARY KEY (task_id, ordinal)
);

-- What the worker of a batch works on: written at its birth.
CREATE TABLE step_batches (
    task_id      uuid    NOT NULL,
    ordinal      integer NOT NULL,
    batch        integer NOT NULL,
    content_type text,
    cursor       bytea,
    metadata     jsonb,
    -- Its failure counts as done.
    passed_over  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (task_id, ordinal),
    CONSTRAINT a_cursor_says_what_it_is CHECK ((cursor IS NULL) = (content_type IS NULL))
);
