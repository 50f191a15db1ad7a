//! Every built-in type of PostgreSQL: the copy holds the same values, to the letter, after the snapshot, after inserts,
//! after an update of each column, and after deletes.

use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};

/// Type and values, as SQL literals. A type that is not built in is made by [`TYPES`].
pub(crate) const COLUMNS: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "0"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    (
        "numeric",
        &[
            "'NaN'",
            "'-Infinity'",
            "1.000",
            "-0.00000000000000000001",
            "repeat('9', 131072)::numeric",
            "('0.' || repeat('1', 16383))::numeric",
        ],
    ),
    ("numeric(10,2)", &["12345678.90", "'NaN'"]),
    ("numeric(3,-2)", &["12300", "-99900"]),
    ("numeric(3,5)", &["0.00123"]),
    ("real", &["'NaN'", "'Infinity'", "'-0'", "1.17549435e-38", "3.4028235e38", "0.1"]),
    (
        "double precision",
        &["'NaN'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "0.1", "0.30000000000000004"],
    ),
    ("money", &["'-92233720368547758.08'", "1234.5"]),
    ("boolean", &["true", "false"]),
    (
        "text",
        &[
            "''",
            "' '",
            "E'\\\\N'",
            "E'a\\tb\\n\\r\\\\\"''{},()'",
            "'\u{1F600}ä\u{301}\u{10FFFF}'",
            "E'\\u0001\\u007f'",
        ],
    ),
    ("varchar(10)", &["'ab  '", "'äöüäöüäöüß'"]),
    ("char(6)", &["'ab'", "''", "'a b'"]),
    ("char(3)[]", &["'{a,\"b \",NULL}'"]),
    ("name", &["'a name'"]),
    ("\"char\"", &["'x'", "''"]),
    ("bytea", &["'\\x'", "'\\x00ff5c27'", "decode(repeat('00', 3000), 'hex')"]),
    ("date", &["'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "'0044-03-15 BC'"]),
    ("time", &["'24:00:00'", "'23:59:59.999999'"]),
    ("time(2)", &["'12:00:00.12'"]),
    ("timetz", &["'24:00:00-15:59:59'", "'12:34:56.789+05:30'"]),
    (
        "timestamp",
        &[
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
            "'0001-01-01 BC'",
        ],
    ),
    ("timestamp(3)", &["'2024-02-29 12:00:00.123'"]),
    (
        "timestamptz",
        &[
            "'4713-01-02 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'infinity'",
            "'1900-01-01 00:00:00+00:17:30'",
        ],
    ),
    (
        "interval",
        &["'1 year -2 mons 3 days -04:05:06.000007'", "'-178000000 years'", "'0'", "'-00:00:00.000001'"],
    ),
    ("interval day to second(3)", &["'1 day 02:03:04.567'"]),
    ("inet", &["'10.1.2.3/8'", "'::ffff:1.2.3.4/128'", "'fe80::1/64'"]),
    ("cidr", &["'10.0.0.0/8'", "'::/0'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"a\": 1, \"a\":  2.50, \"\\u0000\": 1e400}'", "'null'", "' [ 1 ] '", "'\"x\"'"]),
    (
        "jsonb",
        &[
            "'{\"b\": 1.00, \"a\": [null, \"\\u00e4\"], \"a\": 2}'",
            "'null'",
            "'123456789012345678901234567890.10'",
            "'\"\"'",
        ],
    ),
    ("xml", &["'<a b=\"c\">&lt;x/&gt;</a>'", "'text only'"]),
    ("bit(5)", &["B'01010'"]),
    ("bit varying(70)", &["B''", "B'1'", "repeat('10', 35)::varbit"]),
    ("tsvector", &["'''a b'':1A,2 c'"]),
    ("tsquery", &["'a & !(b | c:*AB)'", "'a <2> b'"]),
    ("point", &["'(-0,1e300)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,-2,0.1}'"]),
    ("lseg", &["'[(0,0),(1.5,-2)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'[(0,0),(1,1)]'", "'((0,0),(1,1),(2,0))'"]),
    ("polygon", &["'((0,0),(1,1),(2,0))'"]),
    ("circle", &["'<(1,2),3.5>'"]),
    ("pg_lsn", &["'FFFFFFFF/FFFFFFFF'", "'0/0'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("oid", &["4294967295"]),
    ("xid", &["'4294967295'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("cid", &["'7'"]),
    ("tid", &["'(42,7)'"]),
    ("regclass", &["'pg_catalog.pg_class'", "'0'", "'4294967295'"]),
    ("regclass[]", &["'{-,pg_catalog.pg_class,4294967295}'"]),
    ("regtype", &["'integer[]'", "'public.mood'", "'0'", "'4294967295'"]),
    ("regproc", &["'pg_catalog.now'", "'0'", "'4294967295'"]),
    ("regprocedure", &["'pg_catalog.abs(integer)'", "'0'", "'4294967295'"]),
    ("regoper", &["'pg_catalog.#-'", "'0'", "'4294967295'"]),
    ("regoperator", &["'pg_catalog.+(integer,integer)'", "'0'", "'4294967295'"]),
    ("regnamespace", &["'pg_catalog'", "'0'", "'4294967295'"]),
    ("regrole", &["'postgres'", "'0'", "'4294967295'"]),
    ("regcollation", &["'pg_catalog.\"C\"'", "'0'", "'4294967295'"]),
    ("regconfig", &["'pg_catalog.english'", "'0'", "'4294967295'"]),
    ("regdictionary", &["'pg_catalog.simple'", "'0'", "'4294967295'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'", "'strict $'"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    ("numrange", &["'(1.50,2.00]'"]),
    ("tstzrange", &["'[2024-01-01 00:00:00+00,infinity)'", "'[\"0044-03-15 00:00:00+00 BC\",)'"]),
    ("daterange", &["'[2024-01-01,)'"]),
    ("int8multirange", &["'{}'", "'{[1,3),[5,)}'"]),
    ("tsmultirange", &["'{[\"2024-01-01 00:00:00\",\"2024-01-02 00:00:00\")}'"]),
    ("int[]", &["'{}'", "'{1,NULL,-3}'", "'[-2:0]={1,2,3}'", "'{{1,2},{3,4}}'", "'[0:0][5:6]={{1,2}}'"]),
    ("text[]", &["'{NULL,\"NULL\",\"\",\" \",\"a,b\",\"q\\\"\\\\\",\"{}\"}'", "'{{{a}}}'"]),
    ("bytea[]", &["ARRAY['\\x00'::bytea, NULL, '\\x']"]),
    ("box[]", &["'{(1,1),(0,0);(3,3),(2,2)}'"]),
    ("timestamptz[]", &["'{infinity,\"2024-01-01 00:00:00+00\"}'"]),
    ("jsonb[]", &["ARRAY['{\"a\": \"b,\\\"\"}'::jsonb, 'null', NULL]"]),
    ("public.mood", &["'it''s'", "'a \"b\"'", "''"]),
    ("public.mood[]", &["'{it''s,NULL,\"\"}'"]),
    ("public.price", &["12.50"]),
    ("public.prices", &["'{1.50,NULL}'"]),
    (
        "public.address",
        &[
            "ROW('a \"street\", \\ (x)', NULL, ROW('it''s', '{1,2}'))",
            "ROW('', '', NULL)",
            "ROW(NULL, NULL, NULL)",
        ],
    ),
    ("public.address[]", &["ARRAY[ROW('x', NULL, ROW('', NULL))::public.address, NULL]"]),
    ("public.floatrange", &["'[0.1,1e300)'"]),
    ("public.floatmultirange", &["'{[0.1,0.5)}'"]),
];

pub(crate) const TYPES: &str = "CREATE TYPE public.mood AS ENUM ('it''s', 'a \"b\"', ''); CREATE DOMAIN public.price AS numeric(10,2) CHECK (value > 0);
    CREATE DOMAIN public.prices AS public.price[]; CREATE TYPE public.inner_part AS (m public.mood, n int[]);
    CREATE TYPE public.address AS (\"Street name\" text, zip varchar(5), part public.inner_part);
    CREATE TYPE public.floatrange AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = floatmultirange)";

async fn all_types(beforehand: bool) {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    let source = pair.source().await;
    let columns: Vec<String> =
        COLUMNS.iter().enumerate().map(|(i, (type_name, _))| format!("c{i} {type_name}")).collect();
    source.batch_execute(TYPES).await.unwrap();
    for (table, identity) in [("t", "DEFAULT"), ("f", "FULL")] {
        let sql = format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, {}); ALTER TABLE {table} REPLICA IDENTITY {identity}",
            columns.join(", ")
        );
        source.batch_execute(&sql).await.unwrap();
    }
    source
        .batch_execute("CREATE TABLE large (id int PRIMARY KEY, t text, b bytea, j jsonb, n int)")
        .await
        .unwrap();
    if beforehand {
        let schema = pair.source_cluster().dump_schema(DATABASE).await;
        pair.target_cluster().psql(DATABASE, &schema).await;
    }
    let most = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap();
    // Row n holds the n-th value of each type, from the start again where a type has fewer; row 0 holds NULLs.
    let insert = |first: usize| {
        let mut sql = String::new();
        for table in ["t", "f"] {
            sql += &format!("INSERT INTO {table} (id) VALUES ({first});");
            for n in 0..most {
                let values: Vec<&str> = COLUMNS.iter().map(|(_, values)| values[n % values.len()]).collect();
                sql += &format!("INSERT INTO {table} VALUES ({}, {});", first + n + 1, values.join(", "));
            }
        }
        sql
    };
    let large = |id: i32| {
        format!(
            "INSERT INTO large SELECT {id}, repeat('\u{e4}\"\\', 2500000), decode(repeat('00ff5c22', 2500000), 'hex'),
             jsonb_build_object('a', repeat('\u{e4}\"', 3000000)), 1"
        )
    };
    source.batch_execute(&insert(0)).await.unwrap();
    source.batch_execute(&large(1)).await.unwrap();
    pair.start().await;
    let tables = ["public.t", "public.f", "public.large"];
    pair.wait_equal(&tables).await;
    source.batch_execute(&insert(100)).await.unwrap();
    source.batch_execute(&large(2)).await.unwrap();
    pair.wait_equal(&tables).await;
    // Each column by itself, so that all others come as unchanged; then whole rows.
    for table in ["t", "f"] {
        for i in 0..COLUMNS.len() {
            let sql = format!(
                "UPDATE {table} SET c{i} = (SELECT x.c{i} FROM {table} x WHERE x.id = 1) WHERE id = 0;
                 UPDATE {table} SET c{i} = NULL WHERE id = 101"
            );
            source.batch_execute(&sql).await.unwrap();
        }
        source.batch_execute(&format!("UPDATE {table} SET id = id + 1000 WHERE id > 102")).await.unwrap();
    }
    source
        .batch_execute("UPDATE large SET n = 2; UPDATE large SET id = 3, t = '' WHERE id = 1")
        .await
        .unwrap();
    pair.wait_equal(&tables).await;
    source
        .batch_execute(
            "DELETE FROM t WHERE id % 2 = 0; DELETE FROM f WHERE id % 2 = 0; DELETE FROM large WHERE id = 2",
        )
        .await
        .unwrap();
    pair.wait_equal(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_into_tables_made_by_rowbridge() {
    all_types(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_into_tables_made_beforehand() {
    all_types(true).await;
}

/// A value that names an object is data: the row is named, and making the object is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_that_the_target_lacks() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(
        "CREATE TABLE t (id int PRIMARY KEY, c regclass, p regproc); INSERT INTO t VALUES (1, 'pg_class', 'now');
         CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.u (); CREATE FUNCTION elsewhere.f() RETURNS int RETURN 1",
    )
    .await;
    pair.start().await;
    pair.wait_equal(&["public.t"]).await;
    pair.source_execute("INSERT INTO t VALUES (2, 'elsewhere.u', NULL)").await;
    let text = super::faults::not_ready(&pair, &["halted", "public.t", "id=2", "elsewhere"]).await;
    assert!(!text.to_lowercase().contains("grant"), "{text}");
    pair.target_execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.u ()").await;
    pair.publisher().restart().await;
    pair.wait_equal(&["public.t"]).await;
    pair.source_execute("INSERT INTO t VALUES (3, NULL, 'elsewhere.f')").await;
    super::faults::not_ready(&pair, &["halted", "public.t", "id=3", "elsewhere.f"]).await;
    pair.target_execute("CREATE FUNCTION elsewhere.f() RETURNS int RETURN 1").await;
    pair.publisher().restart().await;
    pair.wait_equal(&["public.t"]).await;
}

/// The same in a transaction of several deliveries, whose earlier parts lie in an open transaction of the target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_that_the_target_lacks_in_a_large_transaction() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(
        "CREATE TABLE t (id int PRIMARY KEY, c regclass, pad text); INSERT INTO t VALUES (0, NULL, NULL);
         CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.u ()",
    )
    .await;
    pair.start().await;
    pair.wait_equal(&["public.t"]).await;
    pair.source_execute(
        "BEGIN; INSERT INTO t SELECT i, NULL, repeat('x', 1000) FROM generate_series(1, 10000) i;
         INSERT INTO t VALUES (77777, 'elsewhere.u', NULL); COMMIT",
    )
    .await;
    super::faults::not_ready(&pair, &["halted", "public.t", "id=77777", "elsewhere"]).await;
    pair.target_execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.u ()").await;
    pair.publisher().restart().await;
    pair.wait_equal(&["public.t"]).await;
}
