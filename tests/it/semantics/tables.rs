//! Tables that belong together: foreign keys, triggers, partitions, inheritance; and tables that come and go.

use super::{
    Scenario,
    Step::{Define, Source},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "foreign keys with cascades",
        tables: "CREATE TABLE p (id int PRIMARY KEY, v text);
                 CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, v text);
                 CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE);
                 CREATE TABLE d (id int PRIMARY KEY, p int DEFAULT 0 REFERENCES p ON DELETE SET DEFAULT ON UPDATE SET NULL);
                 CREATE TABLE g (id int PRIMARY KEY, c int REFERENCES c ON DELETE CASCADE ON UPDATE CASCADE, v text);
                 CREATE TABLE self (id int PRIMARY KEY, up int REFERENCES self ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
                 CREATE TABLE no_key (p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE); ALTER TABLE no_key REPLICA IDENTITY FULL",
        rows: "INSERT INTO p SELECT i, 'p' || i FROM generate_series(0, 20) i; INSERT INTO c SELECT i, i % 20 + 1, 'c' FROM generate_series(1, 60) i;
               INSERT INTO n SELECT i, i FROM generate_series(1, 20) i; INSERT INTO d SELECT i, i FROM generate_series(1, 20) i;
               INSERT INTO g SELECT i, i, 'g' FROM generate_series(1, 60) i; INSERT INTO self SELECT i, nullif(i / 2, 0) FROM generate_series(1, 31) i;
               INSERT INTO no_key SELECT i % 20 + 1 FROM generate_series(1, 40) i",
        steps: &[
            Source("UPDATE p SET id = id + 100 WHERE id BETWEEN 1 AND 5"),
            Source("DELETE FROM p WHERE id IN (6, 7, 101)"),
            // What cascades did is changed again in the same transaction; a trigger that fired twice would undo it.
            Source("DELETE FROM p WHERE id = 8; INSERT INTO p VALUES (8, 'again'); INSERT INTO c VALUES (7, 8, 'again'); UPDATE n SET p = 8 WHERE id = 8"),
            Source("UPDATE p SET id = 1009 WHERE id = 9; UPDATE c SET p = 10 WHERE p = 1009; DELETE FROM p WHERE id = 1009"),
            Source("UPDATE c SET id = id + 1000 WHERE id IN (30, 31); DELETE FROM c WHERE id = 32"),
            Source("INSERT INTO self VALUES (100, 101), (101, NULL); UPDATE self SET id = 200 WHERE id = 2; DELETE FROM self WHERE id = 3"),
            // Children before their parents, as a deferred constraint allows.
            Source("INSERT INTO self VALUES (300, 301); INSERT INTO self VALUES (301, 302); INSERT INTO self VALUES (302, NULL)"),
        ],
        compared: &["p", "c", "n", "d", "g", "self", "no_key"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "triggers",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text, touched int DEFAULT 0); CREATE TABLE audit (id serial PRIMARY KEY, op text, what text); CREATE TABLE log (op text);
                 CREATE TABLE totals (k text PRIMARY KEY, n int);
                 CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s text := quote_ident(TG_TABLE_SCHEMA); BEGIN
                     EXECUTE 'INSERT INTO ' || s || '.audit (op, what) VALUES ($1, $2)' USING TG_OP, coalesce(NEW.v, OLD.v);
                     EXECUTE 'INSERT INTO ' || s || '.log VALUES ($1)' USING TG_OP;
                     EXECUTE 'INSERT INTO ' || s || '.totals AS x VALUES ($1, 1) ON CONFLICT (k) DO UPDATE SET n = x.n + 1' USING TG_OP;
                     RETURN NULL; END $$;
                 CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || '+'; NEW.touched := NEW.touched + 1; RETURN NEW; END $$;
                 CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
                 CREATE TRIGGER b BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
                 CREATE RULE keep AS ON DELETE TO totals DO INSTEAD NOTHING",
        rows: "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 10) i",
        steps: &[
            Source("INSERT INTO t VALUES (11, 'new'); UPDATE t SET v = v || '!' WHERE id < 5; DELETE FROM t WHERE id = 6"),
            Source("UPDATE t SET id = id + 100 WHERE id = 7; INSERT INTO t VALUES (7, 'other'); DELETE FROM t WHERE id = 7"),
        ],
        compared: &["t", "audit", "log", "totals"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "truncate",
        tables: "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a); CREATE TABLE c (id int PRIMARY KEY, b int REFERENCES b);
                 CREATE TABLE x (id serial PRIMARY KEY, v text); CREATE TABLE y (v text); CREATE TABLE z (id int PRIMARY KEY, v text)",
        rows: "INSERT INTO a SELECT generate_series(1, 5); INSERT INTO b SELECT i, i FROM generate_series(1, 5) i; INSERT INTO c SELECT i, i FROM generate_series(1, 5) i;
               INSERT INTO x (v) SELECT 'x' FROM generate_series(1, 5); INSERT INTO y VALUES ('y'), ('y'); INSERT INTO z VALUES (1, 'z')",
        steps: &[
            Source("TRUNCATE a CASCADE"),
            Source("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1)"),
            Source("INSERT INTO x (v) VALUES ('before'); INSERT INTO y VALUES ('before'); TRUNCATE x, y, z RESTART IDENTITY; INSERT INTO x (v) VALUES ('after'); INSERT INTO y VALUES ('after'), ('after')"),
            Source("INSERT INTO z VALUES (1, 'a'); TRUNCATE z; INSERT INTO z VALUES (1, 'b'); TRUNCATE z; INSERT INTO z VALUES (2, 'c'); UPDATE z SET id = 3"),
            Source("TRUNCATE b CASCADE; TRUNCATE y"),
        ],
        compared: &["a", "b", "c", "x", "y", "z"],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "partitions",
        tables: "CREATE TABLE t (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
                 CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu'); CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us') PARTITION BY RANGE (id);
                 CREATE TABLE t_us_1 PARTITION OF t_us FOR VALUES FROM (0) TO (100);
                 CREATE TABLE t_us_2 (v text, region text NOT NULL, gone int, id int NOT NULL, PRIMARY KEY (id, region)); ALTER TABLE t_us_2 DROP COLUMN gone;
                 ALTER TABLE t_us ATTACH PARTITION t_us_2 FOR VALUES FROM (100) TO (200); CREATE TABLE t_other PARTITION OF t DEFAULT;
                 CREATE TABLE no_key (id int, v text) PARTITION BY RANGE (id); CREATE TABLE no_key_1 PARTITION OF no_key FOR VALUES FROM (0) TO (100);
                 CREATE TABLE no_key_2 PARTITION OF no_key FOR VALUES FROM (100) TO (200); ALTER TABLE no_key_1 REPLICA IDENTITY FULL; ALTER TABLE no_key_2 REPLICA IDENTITY FULL;
                 CREATE TABLE empty_root (id int PRIMARY KEY) PARTITION BY HASH (id)",
        rows: "INSERT INTO t SELECT i, (ARRAY['eu', 'us', 'asia'])[i % 3 + 1], 'v' || i FROM generate_series(1, 150) i; INSERT INTO no_key SELECT i % 150, 'v' FROM generate_series(1, 300) i",
        steps: &[
            Source("UPDATE t SET v = 'x' WHERE id % 10 = 0; DELETE FROM t WHERE id % 10 = 1; INSERT INTO t VALUES (199, 'us', 'new'), (1, 'mars', 'new')"),
            Source("UPDATE t SET region = 'us', v = 'moved' WHERE region = 'eu' AND id < 30; UPDATE t SET id = id + 101 WHERE region = 'us' AND id < 20; UPDATE t SET id = id WHERE id = 40"),
            Source("UPDATE no_key SET id = id + 100 WHERE id < 20; DELETE FROM no_key WHERE ctid = (SELECT min(ctid) FROM no_key WHERE id = 50) AND id = 50"),
            Source("TRUNCATE t_us_1"),
            Source("INSERT INTO t VALUES (50, 'us', 'after the truncate'); UPDATE t SET v = 'still there' WHERE region = 'asia' AND id < 50"),
            Source("TRUNCATE t_us; INSERT INTO t VALUES (51, 'us', 'x'), (151, 'us', 'y')"),
            Source("TRUNCATE no_key; INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (101, 'y')"),
        ],
        compared: &["t", "no_key"],
        slow: true,
    },
    Scenario {
        name: "truncated root",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200)",
        rows: "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 150) i",
        steps: &[
            Source("TRUNCATE t; INSERT INTO t VALUES (1, 'a'), (101, 'b')"),
            Source("INSERT INTO t VALUES (2, 'c'); TRUNCATE t1, t2; INSERT INTO t VALUES (3, 'd')"),
        ],
        ..Scenario::EMPTY
    },
    Scenario {
        name: "partitions that come",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100);
                 CREATE TABLE t3 (v text, id int PRIMARY KEY); CREATE TABLE m (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100)",
        rows: "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 99) i; INSERT INTO t3 SELECT 'v', i FROM generate_series(200, 250) i; INSERT INTO m VALUES (1, 'a')",
        steps: &[
            Define("CREATE TABLE t4 PARTITION OF t FOR VALUES FROM (300) TO (400)"),
            Source("INSERT INTO t SELECT i, 'new leaf' FROM generate_series(300, 350) i; UPDATE t SET v = 'x' WHERE id = 301"),
            Source("INSERT INTO t3 VALUES ('before', 251); UPDATE t3 SET v = 'before' WHERE id = 205"),
            Define("ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (200) TO (300)"),
            Source("INSERT INTO t VALUES (260, 'into the attached'); UPDATE t SET v = 'changed' WHERE id IN (1, 210, 310); DELETE FROM t WHERE id = 220"),
            Define("CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (100) TO (200)"),
            Source("INSERT INTO m VALUES (101, 'b'), (2, 'c')"),
        ],
        compared: &["t", "m"],
        slow: true,
    },
    Scenario {
        name: "partitions that go",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200);
                 CREATE TABLE m (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100); CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (100) TO (200)",
        rows: "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 150) i; INSERT INTO m VALUES (1, 'a'), (101, 'b')",
        steps: &[
            Define("ALTER TABLE t DETACH PARTITION t2"),
            Source("INSERT INTO t2 VALUES (199, 'on its own now'); UPDATE t SET v = 'rest' WHERE id = 2"),
            Define("DROP TABLE m1"),
            Source("INSERT INTO m VALUES (102, 'd')"),
        ],
        compared: &["t", "t2", "m"],
        slow: true,
    },
    Scenario {
        name: "inheritance",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE c (extra int, PRIMARY KEY (id)) INHERITS (t); CREATE TABLE g (PRIMARY KEY (id)) INHERITS (c)",
        rows: "INSERT INTO t VALUES (1, 't'), (2, 't'); INSERT INTO c VALUES (3, 'c', 1), (1, 'c', 1); INSERT INTO g VALUES (4, 'g', 2)",
        steps: &[
            Source("UPDATE t SET v = v || '!'; DELETE FROM t WHERE id = 1; INSERT INTO c VALUES (5, 'c', NULL)"),
            Source("INSERT INTO t VALUES (9, 't'); TRUNCATE ONLY t; UPDATE t SET id = id + 10"),
        ],
        ..INHERITED
    },
    Scenario {
        name: "tables that appear",
        tables: "CREATE TABLE t (id int PRIMARY KEY)",
        steps: &[
            Define("CREATE TABLE born (id int PRIMARY KEY, v text); CREATE TABLE born_keyless (v text); CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE later (id int PRIMARY KEY, m mood)"),
            Source("INSERT INTO born SELECT i, 'v' FROM generate_series(1, 20) i; INSERT INTO born_keyless VALUES ('x'), ('x'); INSERT INTO t VALUES (1)"),
            Source("UPDATE born SET v = 'x' WHERE id < 5; DELETE FROM born WHERE id = 6; INSERT INTO later VALUES (1, 'b')"),
        ],
        compared: &["t", "born", "born_keyless", "later"],
        slow: true,
        ..Scenario::EMPTY
    },
    Scenario {
        name: "made and filled at once",
        tables: "CREATE TABLE t (id int PRIMARY KEY)",
        steps: &[Define(
            "CREATE TABLE n (id int PRIMARY KEY, v text); INSERT INTO n SELECT i, 'v' FROM generate_series(1, 20) i; UPDATE n SET id = id + 100 WHERE id < 3;
             INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
        )],
        compared: &["t", "n"],
        slow: true,
        ..Scenario::EMPTY
    },
    Scenario {
        name: "what is not replicated does no harm",
        tables: "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE UNLOGGED TABLE u (id int PRIMARY KEY); CREATE VIEW w AS SELECT * FROM t; CREATE MATERIALIZED VIEW mw AS SELECT * FROM t",
        rows: "INSERT INTO t VALUES (1, 'a')",
        steps: &[
            Source("CREATE TEMP TABLE tmp AS TABLE t; INSERT INTO u SELECT generate_series(1, 5); UPDATE w SET v = 'through the view'; REFRESH MATERIALIZED VIEW mw; DROP TABLE tmp"),
            Source("SELECT pg_logical_emit_message(true, 'app', 'hello'); SELECT pg_logical_emit_message(false, 'app', 'hello'); INSERT INTO t VALUES (2, 'b')"),
            Source("CREATE INDEX ON t (v); ANALYZE t; ALTER TABLE t ALTER v SET STATISTICS 50; INSERT INTO t VALUES (3, 'c')"),
        ],
        ..Scenario::EMPTY
    },
];

const INHERITED: Scenario = Scenario { compared: &["t", "c", "g"], ..Scenario::EMPTY };
