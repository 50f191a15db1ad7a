-- Tables of the recording, and the rows that the connector finds when it starts.
CREATE TABLE numbers (
    id integer PRIMARY KEY, t1 tinyint(1), tu tinyint unsigned, s smallint, m mediumint, iu int unsigned, b bigint,
    bu bigint unsigned, d decimal(10,2), d65 decimal(65,30), f float, d8 double, b1 bit(1), b12 bit(12), y year);
CREATE TABLE texts (
    id integer PRIMARY KEY, c char(6), v varchar(20), t text, bi binary(3), vb varbinary(10), bl blob,
    en enum('large','it''s','x,y'), se set('a','c d','e'), js json);
CREATE TABLE times (
    id integer PRIMARY KEY, d date, dt datetime, dt3 datetime(3), dt6 datetime(6), ts timestamp NULL, ts3 timestamp(3) NULL,
    ti time, ti6 time(6));
CREATE TABLE zeros (
    id integer PRIMARY KEY, d date NOT NULL, dt datetime NOT NULL, dt6 datetime(6) NOT NULL, ts timestamp NOT NULL, dn date,
    dtn datetime, tsn timestamp NULL);
CREATE TABLE shapes (id integer PRIMARY KEY, g geometry, p point, ps point SRID 4326, l linestring);
CREATE TABLE pair (b varchar(9), a integer, c varchar(9), PRIMARY KEY (a, b));
CREATE TABLE keyless (a integer, t varchar(9));

INSERT INTO numbers VALUES (1, 1, 2, 3, 4, 5, 6, 7, 8.5, 9.25, 1.5, 2.5, b'1', b'101', 2024);
INSERT INTO times VALUES (1, '2024-02-29', '2024-02-29 12:34:56', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789012',
    '2024-02-29 12:34:56', '2024-02-29 12:34:56.78', '12:34:56', '-12:34:56.789012');
