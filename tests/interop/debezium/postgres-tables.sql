-- Tables of the recording, and the rows that the connector finds when it starts: they become snapshot reads.
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE EXTENSION isn;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN label AS text;
CREATE TYPE address AS (street text, number integer);
CREATE TYPE floatrange AS RANGE (subtype = float8);

CREATE TABLE numbers (
    id integer PRIMARY KEY, si smallint, bi bigint, n numeric, n10 numeric(10,2), n38 numeric(38,0), nneg numeric(3,-2),
    nfrac numeric(3,5), pr price, f4 real, f8 double precision, mo money, bo boolean, oi oid);
CREATE TABLE texts (
    id integer PRIMARY KEY, t text, v varchar(20), c char(6), na name, qc "char", ci citext, lb label, by bytea, uu uuid,
    js json, jb jsonb, xm xml, mo mood);
CREATE TABLE times (
    id integer PRIMARY KEY, d date, t time, t0 time(0), t3 time(3), tz timetz, tz0 timetz(0), ts timestamp, ts0 timestamp(0),
    ts3 timestamp(3), ts4 timestamp(4), tt timestamptz, tt0 timestamptz(0), tt3 timestamptz(3), iv interval,
    iv2 interval day to second(2));
CREATE TABLE others (
    id integer PRIMARY KEY, b1 bit, b5 bit(5), b70 bit(70), bv bit varying(20), bvu bit varying, bv1 bit varying(1), ine inet,
    cid cidr, ma macaddr, ma8 macaddr8, tv tsvector, hs hstore, lt ltree, isb isbn,
    r4 int4range, r8 int8range, rn numrange, rd daterange, rts tsrange, rtt tstzrange, rf floatrange, mr int4multirange,
    pt point, ln line, ls lseg, bx box, pa path, po polygon, ci circle,
    tq tsquery, pl pg_lsn, ad address, rc regclass, jp jsonpath, xi xid8, xd xid);
CREATE TABLE arrays (
    id integer PRIMARY KEY, si smallint[], i integer[], bi bigint[], n numeric[], n9 numeric(9,1)[], f4 real[],
    f8 double precision[], bo boolean[], t text[], v varchar(5)[], c char(3)[], ci citext[], by bytea[], uu uuid[], js json[],
    jb jsonb[], mo mood[], d date[], ti time[], tz timetz[], ts timestamp[], ts0 timestamp(0)[], tt timestamptz[], ine inet[],
    r4 int4range[], rtt tstzrange[], oi oid[], iv interval[], mon money[], pt point[], xm xml[], bi5 bit(5)[], lb label[],
    pr price[], hs hstore[], ad address[], na name[]);
-- What stands in place of a value that a NOT NULL column must have but a delete by key does not tell.
CREATE TABLE required (
    id integer PRIMARY KEY, si smallint NOT NULL, bi bigint NOT NULL, n numeric NOT NULL, n10 numeric(10,2) NOT NULL,
    f4 real NOT NULL, f8 double precision NOT NULL, mo money NOT NULL, bo boolean NOT NULL, t text NOT NULL,
    v varchar(9) NOT NULL, by bytea NOT NULL, uu uuid NOT NULL, js json NOT NULL, en mood NOT NULL, d date NOT NULL,
    ti time NOT NULL, ti3 time(3) NOT NULL, tz timetz NOT NULL, ts timestamp NOT NULL, ts3 timestamp(3) NOT NULL,
    tt timestamptz NOT NULL, iv interval NOT NULL, b1 bit NOT NULL, b5 bit(5) NOT NULL, ine inet NOT NULL,
    r4 int4range NOT NULL, pt point NOT NULL, bx box NOT NULL, ar integer[] NOT NULL, at text[] NOT NULL,
    hs hstore NOT NULL, xm xml NOT NULL, tv tsvector NOT NULL, lb label NOT NULL, pr price NOT NULL, c char(3) NOT NULL,
    ci citext NOT NULL, lt ltree NOT NULL, oi oid NOT NULL, rf floatrange NOT NULL);
-- Defaults of the database: Debezium knows them, an event of ours does not.
CREATE TABLE defaults (id integer PRIMARY KEY, a integer DEFAULT 5, b text NOT NULL DEFAULT 'none', c text);
CREATE TABLE "full" (id integer PRIMARY KEY, t text, n numeric(6,2), tt timestamptz, big text);
ALTER TABLE "full" REPLICA IDENTITY FULL;
CREATE TABLE pair (b text, a integer, c text, PRIMARY KEY (a, b));
CREATE TABLE by_index (id integer PRIMARY KEY, code text NOT NULL UNIQUE, t text);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
CREATE TABLE keyless (a integer, t text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE toast (
    id integer PRIMARY KEY, n integer, t text, v varchar(20000), by bytea, js jsonb, xm xml, ar text[], ia integer[],
    la bigint[], ba bytea[], ua uuid[], da date[], hs hstore, nu numeric, va varbit, tv tsvector, ci citext, po polygon,
    req text NOT NULL);
ALTER TABLE toast ALTER t SET STORAGE EXTERNAL, ALTER v SET STORAGE EXTERNAL, ALTER by SET STORAGE EXTERNAL,
    ALTER js SET STORAGE EXTERNAL, ALTER xm SET STORAGE EXTERNAL, ALTER ar SET STORAGE EXTERNAL,
    ALTER ia SET STORAGE EXTERNAL, ALTER la SET STORAGE EXTERNAL, ALTER ba SET STORAGE EXTERNAL,
    ALTER ua SET STORAGE EXTERNAL, ALTER da SET STORAGE EXTERNAL, ALTER hs SET STORAGE EXTERNAL,
    ALTER va SET STORAGE EXTERNAL, ALTER tv SET STORAGE EXTERNAL, ALTER ci SET STORAGE EXTERNAL,
    ALTER po SET STORAGE EXTERNAL, ALTER req SET STORAGE EXTERNAL;

INSERT INTO numbers VALUES
    (1, 1, 2, 3.50, 4.5, 5, 600, 0.007, 8.25, 1.5, 2.5, '1.25', true, 26),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO texts VALUES
    (1, 'text', 'varying', 'char', 'name', 'q', 'CiText', 'label', '\x00ff10', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
     '{"a" : 1}', '{"b": [1, 2.50]}', '<a>1</a>', 'happy');
INSERT INTO times VALUES
    (1, '2024-02-29', '12:34:56.789012', '12:34:56', '12:34:56.789', '12:34:56.7+02', '12:34:56-05:30',
     '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.7891',
     '2024-02-29 12:34:56.789012+02', '2024-02-29 12:34:56+02', '2024-02-29 12:34:56.78+02',
     '1 year 2 mons 3 days 04:05:06.789', '1 day 02:03:04.56');
INSERT INTO others (id, b1, b5, b70, bv, ine, hs, r4, pt, tv, lt) VALUES
    (1, '1', '10011', repeat('10', 35)::bit(70), '101', '10.0.0.1/8', 'a=>1, b=>NULL', '[1,5)', '(1.5,-2)', 'the fat cat', 'a.b');
INSERT INTO arrays (id, i, t, n9, ts) VALUES (1, '{1,NULL,3}', '{a,NULL,"c d"}', '{1.5,2.0}', '{2024-01-01 00:00:00}');
INSERT INTO defaults VALUES (1, NULL, 'x', NULL);
INSERT INTO "full" VALUES (1, 'one', 1.10, '2024-01-01 00:00:00+00', NULL);
INSERT INTO keyless VALUES (1, 'one');
