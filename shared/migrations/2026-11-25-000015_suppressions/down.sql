DROP FUNCTION without_content(json);
ALTER TABLE tasks DROP COLUMN content_ttl_s;
DROP TABLE email_events;
DROP TABLE suppressions;
