//! What PostgreSQL's rows, keys and tables can do, from PostgreSQL to PostgreSQL: the copy must equal its source.
//!
//! Every scenario is SQL in a schema of its own, so that one bridge serves all of them. Each is run three times: with its
//! changes made before the start (so that the snapshot must carry the result), while the snapshot runs, and while the
//! bridge only streams. All that is done once with target tables made by Rowbridge and once with tables made
//! beforehand from the source's own definitions, foreign keys and triggers included.

mod keys;
mod shapes;
mod tables;

use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};

/// One piece of SQL, run as one transaction unless it says otherwise.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// At the source.
    Source(&'static str),
    /// At the source; where the target's tables are not made by Rowbridge, also there, and before.
    Define(&'static str),
}

use Step::{Define, Source};

/// Tables, what is done to them, and what has to be equal afterwards.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// Makes the tables.
    tables: &'static str,
    /// Rows that are there before anything else.
    rows: &'static str,
    steps: &'static [Step],
    /// Names of the tables to compare.
    compared: &'static [&'static str],
    /// Depends on DDL being noticed, which takes seconds: all of these wait together, at the end.
    slow: bool,
}

impl Scenario {
    const EMPTY: Self = Self { name: "", tables: "", rows: "", steps: &[], compared: &["t"], slow: false };

    fn defines(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Define(_)))
    }
}

/// When the changes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    During,
    Streaming,
}

impl When {
    fn schema(self, scenario: &Scenario) -> String {
        let when = match self {
            Self::Before => "before",
            Self::During => "during",
            Self::Streaming => "stream",
        };
        // Without the dot, which ends the schema in raw names.
        format!("{when} {}", scenario.name.replace('.', "·"))
    }
}

/// Who makes the target's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    ByRowbridge,
    Beforehand,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn run(client: &tokio_postgres::Client, schema: &str, sql: &str) {
    client.batch_execute(&format!("SET search_path = {}, public", quoted(schema))).await.unwrap();
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{schema}: {error:?}\n{sql}");
    }
}

struct Run {
    pair: Pair,
    made: Made,
    source: tokio_postgres::Client,
    target: tokio_postgres::Client,
}

impl Run {
    async fn steps(&self, scenario: &Scenario, when: When) {
        let schema = when.schema(scenario);
        for step in scenario.steps {
            match step {
                Source(sql) => run(&self.source, &schema, sql).await,
                Define(sql) => {
                    if self.made == Made::Beforehand && when != When::Before {
                        run(&self.target, &schema, sql).await;
                    }
                    run(&self.source, &schema, sql).await;
                }
            }
        }
    }

    /// Waits until the tables that are compared, and exist by now, are equal.
    async fn equal(&self, scenario: &Scenario, when: When) {
        let schema = when.schema(scenario);
        let mut tables: Vec<String> = Vec::new();
        for table in scenario.compared {
            // A leaf is compared with its root.
            let sql = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                      WHERE n.nspname = $1 AND c.relname = $2 AND NOT c.relispartition)";
            if self.source.query_one(sql, &[&schema, table]).await.unwrap().get(0) {
                tables.push(format!("{schema}.{table}"));
            }
        }
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let waited = tokio::time::Instant::now();
        self.pair.wait_equal(&tables).await;
        println!("equal: {schema} ({:?})", waited.elapsed());
    }
}

async fn all_scenarios(made: Made) {
    // For the work on one scenario: only those whose names contain this.
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let scenarios: Vec<Scenario> = [keys::SCENARIOS, shapes::SCENARIOS, tables::SCENARIOS]
        .concat()
        .into_iter()
        .filter(|scenario| scenario.name.contains(&only))
        .collect();
    let mut options = PairOptions::postgres();
    options.tables = vec!["*".into()];
    let pair = Pair::prepare(options).await;
    let (source, target) = (pair.source().await, pair.target().await);
    // Extensions are the operator's to install, as the documentation says.
    for client in [&source, &target] {
        client.batch_execute("CREATE EXTENSION citext; CREATE EXTENSION btree_gist").await.unwrap();
    }
    let run_ = Run { pair, made, source, target };
    for when in [When::Before, When::During, When::Streaming] {
        for scenario in &scenarios {
            let schema = when.schema(scenario);
            run_.source.batch_execute(&format!("CREATE SCHEMA {}", quoted(&schema))).await.unwrap();
            run(&run_.source, &schema, scenario.tables).await;
            run(&run_.source, &schema, scenario.rows).await;
            if when == When::Before {
                run_.steps(scenario, when).await;
            }
        }
    }
    if made == Made::Beforehand {
        let cluster = run_.pair.source_cluster();
        let schema = cluster.dump_schema(DATABASE).await;
        // Only what Rowbridge could not make by itself stays to be made.
        run_.pair.target_cluster().psql(DATABASE, &schema).await;
        run_.pair.target_execute("SET session_replication_role = DEFAULT").await;
    }
    let started = tokio::time::Instant::now();
    let during = async {
        for scenario in scenarios.iter().filter(|scenario| !scenario.defines()) {
            run_.steps(scenario, When::During).await;
        }
    };
    tokio::join!(run_.pair.start(), during);
    println!("started and changed meanwhile in {:?}", started.elapsed());
    for scenario in &scenarios {
        run_.equal(scenario, When::Before).await;
        if !scenario.defines() {
            run_.equal(scenario, When::During).await;
        }
        run_.equal(scenario, When::Streaming).await;
    }
    println!("snapshot equal after {:?}", started.elapsed());
    for scenario in scenarios.iter().filter(|scenario| !scenario.slow) {
        run_.steps(scenario, When::Streaming).await;
        run_.equal(scenario, When::Streaming).await;
    }
    for scenario in scenarios.iter().filter(|scenario| scenario.slow) {
        run_.steps(scenario, When::Streaming).await;
    }
    for scenario in scenarios.iter().filter(|scenario| scenario.slow) {
        run_.equal(scenario, When::Streaming).await;
    }
    println!("all equal after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_tables_made_by_rowbridge() {
    all_scenarios(Made::ByRowbridge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_tables_made_beforehand() {
    all_scenarios(Made::Beforehand).await;
}

/// Without an index that says which rows are there, many rows that should be new must still find those that are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_there_are_found_without_an_index() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    let rows =
        |from: u32| format!("INSERT INTO t SELECT i, 'x' FROM generate_series({from}, {from} + 999) i");
    pair.source_execute(&format!("CREATE TABLE t (id int PRIMARY KEY, v text); {}", rows(1))).await;
    pair.target_execute(&format!("CREATE TABLE t (id int, v text); {}; UPDATE t SET v = 'old'", rows(501)))
        .await;
    pair.target_execute("DELETE FROM t WHERE id > 1000").await;
    pair.start().await;
    pair.wait_equal(&["public.t"]).await;
    pair.target_execute("INSERT INTO t SELECT i, 'old' FROM generate_series(1900, 1950) i").await;
    pair.source_execute(&rows(1001)).await;
    pair.wait_equal(&["public.t"]).await;
}
