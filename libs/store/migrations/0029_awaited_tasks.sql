-- Who waits for a task's end has nothing to do with its moves on the way: `watched` has all of them announced.
ALTER TABLE tasks ADD COLUMN awaited boolean NOT NULL DEFAULT false;
