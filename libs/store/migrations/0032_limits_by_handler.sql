-- What limits hold is looked at for one handler after another, from value to value: by this index alone, in the
-- order of bytes, which the services know, too.
CREATE INDEX held_steps_by_handler_and_limit
    ON held_steps (namespace, callable, limit_name COLLATE "C", limit_value COLLATE "C", priority DESC, task_id, ordinal)
    WHERE limit_name IS NOT NULL;

DROP INDEX held_steps_by_limit;
