DROP TABLE verification_windows;
DROP TABLE verification_tries;
DROP TABLE verification_recipients;
DROP TABLE verifications;
