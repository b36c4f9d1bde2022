DROP FUNCTION without_person;
DROP TABLE erasures;
DROP TABLE users;
