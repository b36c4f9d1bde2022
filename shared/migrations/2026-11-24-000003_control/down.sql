ALTER TABLE api_keys DROP COLUMN scopes, DROP COLUMN last_used_at;
DROP TABLE audit_log;
DROP FUNCTION error_fingerprint(text, text, text);
ALTER TABLE tasks DROP COLUMN progress, DROP COLUMN cancel_requested_at;
