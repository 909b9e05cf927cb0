-- One call that waits for a task's rest is told by a call; where there has been another, all replicas are told.
ALTER TABLE tasks ADD COLUMN awaited_by_many boolean NOT NULL DEFAULT false;
