//! Keys: what names a row, and what happens when that changes.

use super::{Scenario, Step::Source};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "keys that change and swap",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text, w int)",
        rows: "INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 40) i",
        steps: &[
            Source("UPDATE t SET id = id + 100 WHERE id <= 10"),
            Source(
                "UPDATE t SET id = -1 WHERE id = 11; UPDATE t SET id = 11 WHERE id = 12; UPDATE t SET id = 12 WHERE id = -1",
            ),
            Source("DELETE FROM t WHERE id = 13; UPDATE t SET id = 13, v = 'moved in' WHERE id = 14"),
            Source("UPDATE t SET id = 14 WHERE id = 15; INSERT INTO t VALUES (15, 'new at the old place', 0)"),
            // A chain that ends where it began, and rows that come and go.
            Source(
                "UPDATE t SET id = 1000 WHERE id = 20; UPDATE t SET id = 1001 WHERE id = 1000; UPDATE t SET id = 20 WHERE id = 1001;
                 INSERT INTO t VALUES (2000, 'short life', 1); UPDATE t SET id = 2001 WHERE id = 2000; DELETE FROM t WHERE id = 2001",
            ),
            // Every row steps onto the place of the next one: from the top, one statement each.
            Source("DO $$ BEGIN FOR i IN REVERSE 40..16 LOOP UPDATE t SET id = id + 1 WHERE id = i; END LOOP; END $$"),
        ],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "deferrable keys",
        tables: "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE t REPLICA IDENTITY FULL;
                 CREATE TABLE u (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text); ALTER TABLE u REPLICA IDENTITY FULL;
                 CREATE TABLE alike (id int PRIMARY KEY DEFERRABLE); ALTER TABLE alike REPLICA IDENTITY FULL;
                 CREATE TABLE plain (id int PRIMARY KEY, v text)",
        rows: "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 50) i; INSERT INTO u TABLE t; INSERT INTO alike SELECT id FROM t",
        steps: &[
            Source("UPDATE t SET id = id + 1; UPDATE alike SET id = id + 1"),
            Source("UPDATE alike SET id = 5 - id WHERE id < 4; UPDATE alike SET id = id + 1 WHERE id > 40"),
            Source("UPDATE t SET id = 53 - id"),
            Source("UPDATE u SET id = id + 1"),
            Source("UPDATE u SET id = 5 WHERE id = 4; UPDATE u SET id = 4, v = 'swapped' WHERE id = 5 AND v = 'row 4'"),
            Source("DELETE FROM t WHERE id < 10; UPDATE t SET id = id - 9; INSERT INTO t VALUES (1000, NULL)"),
            // Two changes of one table, each wrong without the other.
            Source("INSERT INTO plain VALUES (1, 'a'), (2, 'b'); UPDATE u SET v = upper(v) WHERE id % 2 = 0"),
        ],
        compared: &["t", "u", "alike", "plain"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "deferrable key without identity",
        // PostgreSQL does not take a deferrable key for identity: published for updates, the application's own UPDATE
        // would fail. Its updates cannot be followed; they must go on working.
        tables: "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text);
                 CREATE TABLE left_alone (id int PRIMARY KEY DEFERRABLE, v text)",
        rows: "INSERT INTO t VALUES (1, 'a')",
        steps: &[
            Source("INSERT INTO t VALUES (2, 'b'), (3, 'c')"),
            Source("INSERT INTO left_alone VALUES (1, 'a'); UPDATE left_alone SET id = id + 1; DELETE FROM left_alone"),
        ],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "several changes of one key",
        tables: "CREATE TABLE t (id int PRIMARY KEY, a text, b text)",
        rows: "INSERT INTO t VALUES (1, 'a', 'b'), (2, 'a', 'b'), (3, 'a', 'b')",
        steps: &[
            Source("INSERT INTO t VALUES (4, '1', '1'); UPDATE t SET a = '2' WHERE id = 4; UPDATE t SET b = '3' WHERE id = 4"),
            Source("UPDATE t SET a = 'x' WHERE id = 1; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'again', NULL)"),
            Source("INSERT INTO t VALUES (5, 'x', 'x'); DELETE FROM t WHERE id = 5"),
            Source("DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 'back', 'b'); DELETE FROM t WHERE id = 2"),
            Source("DO $$ BEGIN FOR i IN 1..300 LOOP UPDATE t SET a = i::text WHERE id = 3; END LOOP; END $$"),
        ],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "savepoints rolled back",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text)",
        rows: "INSERT INTO t VALUES (1, 'a')",
        steps: &[Source(
            "BEGIN; INSERT INTO t VALUES (2, 'stays'); SAVEPOINT a; INSERT INTO t VALUES (3, 'goes'); UPDATE t SET v = 'goes';
             SAVEPOINT b; DELETE FROM t; ROLLBACK TO a; INSERT INTO t VALUES (4, 'stays'); SAVEPOINT c;
             UPDATE t SET v = 'released' WHERE id = 1; RELEASE c; SAVEPOINT d; TRUNCATE t; ROLLBACK TO d; COMMIT;
             BEGIN; INSERT INTO t VALUES (5, 'never'); ROLLBACK",
        )],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "unique values that move and swap",
        tables: "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text);
                 CREATE TABLE d (id int PRIMARY KEY, u int UNIQUE DEFERRABLE, v text);
                 CREATE TABLE e (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
                 CREATE TABLE p (id int PRIMARY KEY, u int, live bool); CREATE UNIQUE INDEX ON p (u) WHERE live;
                 CREATE UNIQUE INDEX ON p (abs(u)) WHERE NOT live",
        rows: "INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 30) i; INSERT INTO d TABLE t;
               INSERT INTO e SELECT i, int4range(10 * i, 10 * i + 10) FROM generate_series(1, 10) i;
               INSERT INTO p SELECT i, i, i % 2 = 0 FROM generate_series(1, 20) i",
        steps: &[
            Source("UPDATE t SET u = -1 WHERE id = 1; UPDATE t SET u = 1 WHERE id = 2; UPDATE t SET u = 2 WHERE id = 1"),
            Source("DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (103, 3, 'took it over')"),
            Source("UPDATE t SET u = NULL WHERE id = 4; UPDATE t SET u = 4 WHERE id = 5; UPDATE t SET u = 5 WHERE id = 4"),
            // Through a place that is free at the end, and with a key that changes too.
            Source("UPDATE t SET u = 999 WHERE id = 6; UPDATE t SET u = 6, id = 107 WHERE id = 7; UPDATE t SET u = 7 WHERE id = 6"),
            Source("UPDATE d SET u = u + 1"),
            Source("UPDATE d SET u = 32 - u, v = v || '!'"),
            Source("UPDATE e SET r = NULL WHERE id = 1; UPDATE e SET r = int4range(10, 20) WHERE id = 2; UPDATE e SET r = int4range(20, 30) WHERE id = 1"),
            Source("UPDATE p SET live = false WHERE id = 2; UPDATE p SET u = 2, live = true WHERE id = 3; DELETE FROM p WHERE id = 5; UPDATE p SET u = -5 WHERE id = 7"),
        ],
        compared: &["t", "d", "e", "p"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "composite keys",
        tables: "CREATE TABLE t (v text, b text, a int, c date, PRIMARY KEY (c, a, b));
                 CREATE TABLE only_key (a int, b text, PRIMARY KEY (b, a))",
        rows: "INSERT INTO t SELECT 'v', 'b' || i % 3, i, '2024-01-01'::date + i FROM generate_series(1, 30) i;
               INSERT INTO only_key SELECT i, 'k' || i FROM generate_series(1, 10) i",
        steps: &[
            Source("UPDATE t SET a = a + 1000, v = 'moved' WHERE a % 2 = 0; UPDATE t SET v = 'same' WHERE a % 3 = 0"),
            Source("DELETE FROM t WHERE a < 5; INSERT INTO t VALUES ('x', '', 0, 'infinity'), ('x', ' ', 0, '-infinity')"),
            Source("UPDATE only_key SET a = a WHERE a = 1; UPDATE only_key SET a = -a WHERE a > 5; DELETE FROM only_key WHERE a = 2; INSERT INTO only_key VALUES (7, 'k7')"),
        ],
        compared: &["t", "only_key"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "text keys",
        tables: "CREATE TABLE t (k text COLLATE \"C\" PRIMARY KEY, v int);
                 CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
                 CREATE TABLE b (k text COLLATE blind PRIMARY KEY, v int);
                 CREATE TABLE ci (k citext PRIMARY KEY, v int);
                 CREATE TABLE padded (k char(6) PRIMARY KEY, v int)",
        rows: "INSERT INTO t VALUES ('', 0), (' ', 1), ('a', 2), ('A', 3), ('ä', 4), ('a\u{308}', 5), ('''', 6), ('\\', 7), ('{\"a\",NULL}', 8), ('null', 9), (E'tab\\tline\\n', 10), ('\u{1F600}', 11);
               INSERT INTO b VALUES ('straße', 1), ('Ab', 2), ('x', 3); INSERT INTO ci VALUES ('Ab', 1), ('x', 2), ('gone', 3);
               INSERT INTO padded VALUES ('a', 1), ('b b', 2), ('', 3)",
        steps: &[
            Source("UPDATE t SET v = v + 1; UPDATE t SET k = k || '.' WHERE v < 5; DELETE FROM t WHERE k = ''''"),
            Source("UPDATE b SET v = 20 WHERE k = 'AB'; UPDATE b SET k = 'aB' WHERE k = 'ab'; DELETE FROM b WHERE k = 'X'; INSERT INTO b VALUES ('X', 30)"),
            Source("UPDATE ci SET v = 10 WHERE k = 'AB'; UPDATE ci SET k = 'aB' WHERE k = 'ab'; DELETE FROM ci WHERE k = 'GONE'; INSERT INTO ci VALUES ('Gone', 30)"),
            Source("UPDATE padded SET v = 10 WHERE k = 'a'; UPDATE padded SET k = 'c' WHERE k = 'b b'; DELETE FROM padded WHERE k = ''"),
        ],
        compared: &["t", "b", "ci", "padded"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "keys of other types",
        tables: "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE DOMAIN code AS varchar(10) CHECK (value <> 'no');
                 CREATE TYPE pair AS (a int, b text);
                 CREATE TABLE n (k numeric PRIMARY KEY, v int); CREATE TABLE f (k float8 PRIMARY KEY, v int);
                 CREATE TABLE m (k mood PRIMARY KEY, v int); CREATE TABLE c (k code PRIMARY KEY, v int);
                 CREATE TABLE p (k pair PRIMARY KEY, v int); CREATE TABLE a (k int[] PRIMARY KEY, v int);
                 CREATE TABLE r (k int4range PRIMARY KEY, v int); CREATE TABLE j (k jsonb PRIMARY KEY, v int);
                 CREATE TABLE i (k interval PRIMARY KEY, v int); CREATE TABLE y (k bytea PRIMARY KEY, v int);
                 CREATE TABLE g (k uuid PRIMARY KEY, v int); CREATE TABLE s (k timestamptz, l inet, PRIMARY KEY (k, l), v int);
                 CREATE TABLE o (k bool PRIMARY KEY, v int)",
        rows: "INSERT INTO n VALUES (1.0, 1), (2, 2), ('NaN', 3), (1e-20, 4); INSERT INTO f VALUES (0, 1), ('NaN', 2), ('-Infinity', 3), (0.1, 4);
               INSERT INTO m VALUES ('sad', 1), ('happy', 2); INSERT INTO c VALUES ('x', 1), ('y', 2); INSERT INTO p VALUES ((1, 'a b'), 1), ((2, NULL), 2);
               INSERT INTO a VALUES ('{}', 1), ('{1,2}', 2), ('[0:1]={1,2}', 3); INSERT INTO r VALUES ('empty', 1), ('[1,5)', 2);
               INSERT INTO j VALUES ('{\"a\": 1.0}', 1), ('[]', 2); INSERT INTO i VALUES ('1 day', 1), ('1 month -1 day', 2);
               INSERT INTO y VALUES ('\\x00ff', 1), ('', 2); INSERT INTO g VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1);
               INSERT INTO s VALUES ('2024-01-01 00:00:00.000001+05', '10.0.0.0/8', 1), ('infinity', '::1', 2); INSERT INTO o VALUES (true, 1), (false, 2)",
        steps: &[
            // The same number written in another way is the same key, and its text must still arrive.
            Source("UPDATE n SET k = 1.00, v = 10 WHERE k = 1; UPDATE n SET v = 30 WHERE k = 'NaN'; DELETE FROM n WHERE k = 2; INSERT INTO n VALUES (2.000, 5)"),
            Source("UPDATE f SET k = '-0', v = 10 WHERE k = 0; UPDATE f SET v = 20 WHERE k = 'NaN'; DELETE FROM f WHERE k = 0.1"),
            Source("UPDATE m SET k = 'ok' WHERE k = 'sad'; UPDATE m SET v = 3 WHERE k = 'happy'; UPDATE c SET k = 'z' WHERE k = 'x'; DELETE FROM c WHERE k = 'y'"),
            Source("UPDATE p SET v = 5 WHERE k = (1, 'a b')::pair; DELETE FROM p WHERE (k).a = 2; UPDATE a SET v = 6; DELETE FROM a WHERE k = '{}'; UPDATE a SET k = k || 3 WHERE k = '{1,2}'"),
            Source("UPDATE r SET v = 7; UPDATE r SET k = '[7,8]' WHERE k = 'empty'; UPDATE j SET v = 8; UPDATE j SET k = '{\"a\": 1.00}' WHERE v = 8 AND k = '{\"a\": 1}'; DELETE FROM j WHERE k = '[]'"),
            Source("UPDATE i SET k = '24 hours', v = 9 WHERE k = '1 day'; DELETE FROM i WHERE k = '1 month -1 day'; INSERT INTO i VALUES ('29 days', 4)"),
            Source("UPDATE y SET v = 10; DELETE FROM y WHERE k = ''; UPDATE g SET v = 11; UPDATE s SET v = 12; UPDATE s SET l = '10.0.0.1' WHERE l = '10.0.0.0/8'; UPDATE o SET v = 13; DELETE FROM o WHERE k"),
        ],
        compared: &["n", "f", "m", "c", "p", "a", "r", "j", "i", "y", "g", "s", "o"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "replica identities",
        tables: "CREATE TABLE d (id int PRIMARY KEY, v text);
                 CREATE TABLE f (id int PRIMARY KEY, v text, w text); ALTER TABLE f REPLICA IDENTITY FULL;
                 CREATE TABLE i (id int PRIMARY KEY, u text NOT NULL, v text); CREATE UNIQUE INDEX i_u ON i (u); ALTER TABLE i REPLICA IDENTITY USING INDEX i_u;
                 CREATE TABLE x (u text NOT NULL, n int NOT NULL, v text); CREATE UNIQUE INDEX x_u ON x (n, u) INCLUDE (v); ALTER TABLE x REPLICA IDENTITY USING INDEX x_u;
                 CREATE TABLE n (id int PRIMARY KEY, v text); ALTER TABLE n REPLICA IDENTITY NOTHING;
                 CREATE TABLE left_alone (id int PRIMARY KEY, v text); ALTER TABLE left_alone REPLICA IDENTITY NOTHING",
        rows: "INSERT INTO d SELECT i, 'v' || i FROM generate_series(1, 20) i; INSERT INTO f SELECT i, 'v', 'w' || i FROM generate_series(1, 20) i;
               INSERT INTO i SELECT i, 'u' || i, 'v' FROM generate_series(1, 20) i; INSERT INTO x SELECT 'u' || i, i, 'v' FROM generate_series(1, 20) i;
               INSERT INTO n VALUES (1, 'a')",
        steps: &[
            Source("UPDATE d SET v = 'x' WHERE id < 5; UPDATE d SET id = id + 100 WHERE id < 3; DELETE FROM d WHERE id = 10"),
            Source("UPDATE f SET v = 'x' WHERE id < 5; UPDATE f SET id = id + 100 WHERE id < 3; DELETE FROM f WHERE id = 10"),
            Source("UPDATE i SET v = 'x' WHERE id < 5; UPDATE i SET id = id + 100 WHERE id < 3; UPDATE i SET u = u || '!' WHERE id = 4; DELETE FROM i WHERE id = 10"),
            // The primary key moves from row to row, while the rows keep their names.
            Source("UPDATE i SET id = -1 WHERE u = 'u5'; UPDATE i SET id = 5 WHERE u = 'u6'; UPDATE i SET id = 6 WHERE u = 'u5'"),
            Source("UPDATE x SET v = 'x' WHERE n < 5; UPDATE x SET n = n + 100, u = 'y' WHERE n < 3; DELETE FROM x WHERE n = 10"),
            Source("INSERT INTO n VALUES (2, 'b'); INSERT INTO left_alone VALUES (1, 'a'); UPDATE left_alone SET v = 'b'; DELETE FROM left_alone"),
        ],
        compared: &["d", "f", "i", "x", "n"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "texts that look like parts of a statement",
        tables: "CREATE TABLE t (k text PRIMARY KEY, v text, w varchar(20), b bytea, a text[], j jsonb)",
        rows: "INSERT INTO t (k) VALUES ('there')",
        steps: &[
            Source(
                r#"INSERT INTO t VALUES ('', '', '', '', '{}', '""'), ('NULL', 'NULL', 'null', NULL, '{NULL,"NULL"}', 'null'), (' ', ' a ', E'\t', '\x5c27', NULL, NULL)"#,
            ),
            Source(
                r#"INSERT INTO t VALUES ('\', 'a\', '\''''', '\x00', '{"\\"}', '"\\"'), ('"', '""', 'a"', NULL, '{"\""}', NULL)"#,
            ),
            Source(
                r#"INSERT INTO t VALUES ('''', '''''', ''');--', NULL, NULL, NULL), ('{', '{,}', '}', NULL, '{"{"}', '{}'), (',', ',,', 'a,b', NULL, NULL, '[]'), (E'\n', E'\r\n', '$1', NULL, NULL, NULL), ('ä☃', 'é', '漢字', NULL, NULL, NULL)"#,
            ),
            Source("UPDATE t SET v = k, w = left(k, 20), a = ARRAY[k, NULL, '']"),
            Source(r#"UPDATE t SET k = k || '''"\' || k WHERE k <> 'there'"#),
            Source(r#"DELETE FROM t WHERE v IN ('', 'NULL', ' ', '\', '"', '''', '{')"#),
        ],
        compared: &["t"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "tables without key",
        tables: "CREATE TABLE t (a int, b text); CREATE TABLE f (a int, b text, c jsonb, d json, e point, x xml); ALTER TABLE f REPLICA IDENTITY FULL;
                 CREATE TABLE left_alone (a int)",
        rows: "INSERT INTO t VALUES (1, 'a'), (1, 'a'), (NULL, NULL);
               INSERT INTO f SELECT i % 3, 'same', '{\"a\": [1]}', '{\"a\":  1}', '(1,2)', '<a/>' FROM generate_series(1, 12) i;
               INSERT INTO f VALUES (NULL, NULL), (NULL, NULL), (NULL, 'x'), (7, NULL)",
        steps: &[
            Source("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (NULL, 'x'), (NULL, 'x'); INSERT INTO left_alone VALUES (1); UPDATE left_alone SET a = 2; DELETE FROM left_alone"),
            // Exactly one of several identical rows.
            Source("DELETE FROM f WHERE ctid = (SELECT min(ctid) FROM f WHERE a = 1); UPDATE f SET b = 'changed' WHERE ctid = (SELECT min(ctid) FROM f WHERE a = 2)"),
            Source("DELETE FROM f WHERE ctid = (SELECT min(ctid) FROM f WHERE a IS NULL AND b IS NULL); UPDATE f SET a = 8 WHERE a IS NULL AND b = 'x'; UPDATE f SET b = '' WHERE a = 7"),
            Source("UPDATE f SET a = a + 1; INSERT INTO f SELECT * FROM f WHERE a = 2; DELETE FROM f WHERE b = 'changed'"),
            Source("UPDATE f SET e = '(3,4)', x = '<b>1</b>', d = '{\"a\":1}' WHERE a = 3"),
            // Some of several identical rows, and rows that no other is like, at once.
            Source("INSERT INTO f SELECT 50, 'same' FROM generate_series(1, 9); INSERT INTO f SELECT i, 'it''s \\ ' || i FROM generate_series(51, 90) i; INSERT INTO f VALUES (NULL, NULL), (NULL, NULL), (NULL, 'NULL')"),
            Source("DELETE FROM f WHERE ctid IN (SELECT ctid FROM f WHERE a = 50 LIMIT 4) OR a > 60 OR ctid IN (SELECT ctid FROM f WHERE a IS NULL AND b IS NULL LIMIT 2)"),
        ],
        compared: &["t", "f"],
        ..Scenario::EMPTY
    },
];
