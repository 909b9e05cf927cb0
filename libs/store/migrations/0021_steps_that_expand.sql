-- Whether other steps come into being by its result: it cannot be settled by hand, only run again.
ALTER TABLE template_steps ADD COLUMN expands boolean NOT NULL DEFAULT false;
