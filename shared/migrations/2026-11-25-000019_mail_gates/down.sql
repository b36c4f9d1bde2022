DROP TABLE mail_gates;
