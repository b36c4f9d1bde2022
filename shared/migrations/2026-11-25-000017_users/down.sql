DROP TABLE erasures;
DROP TABLE users;
