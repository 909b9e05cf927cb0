-- Registered templates: never changed.
CREATE TABLE templates (
    template_id   uuid        PRIMARY KEY,
    namespace     text        NOT NULL,
    name          text        NOT NULL,
    version       text        NOT NULL,
    -- Sorts as versions do, releases after all pre-releases: the newest is the last.
    precedence    text        COLLATE "C" NOT NULL,
    -- SHA-256 of what the definition says: tells the same from another.
    digest        bytea       NOT NULL,
    yaml          text        NOT NULL,
    -- What a task of it starts with.
    step_count    integer     NOT NULL,
    root_count    integer     NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT a_version_is_registered_once UNIQUE (namespace, name, version)
);

-- For the newest version of a name, and for lists.
CREATE INDEX templates_by_precedence ON templates (namespace, name, precedence);

-- What a task's steps are born as, so that creating a thousand tasks sends a thousand ids.
CREATE TABLE template_steps (
    template_id  uuid    NOT NULL REFERENCES templates,
    ordinal      integer NOT NULL,
    name         text    NOT NULL,
    callable     text    NOT NULL,
    max_attempts integer NOT NULL,
    dependencies integer NOT NULL,
    PRIMARY KEY (template_id, ordinal)
);

CREATE TABLE template_dependencies (
    template_id uuid    NOT NULL,
    parent      integer NOT NULL,
    child       integer NOT NULL,
    PRIMARY KEY (template_id, parent, child)
);
