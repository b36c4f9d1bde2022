ALTER TABLE tasks DROP COLUMN forgiven;
