-- Where one call has waited for a task's rest, one replica is called; where there has been another, all are told.
ALTER TABLE tasks ADD COLUMN awaited_by_many boolean NOT NULL DEFAULT false;
-- As in 0037.
ALTER TABLE tasks ALTER COLUMN awaited_by_many SET STATISTICS 10;
