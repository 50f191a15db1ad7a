//! `rowbridge snapshot`

use clap::Args;
use rowbridge_publisher::state::{self, Request};
use rowbridge_schema::{EndpointName, TableName};

use crate::failure::{Failure, chain};
use crate::load::ConfigOption;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// Tables as schema.table (SQLite: table), without quotes
    #[arg(value_name = "TABLE", required_unless_present_any = ["all", "endpoint"])]
    tables: Vec<String>,
    /// Begin anew: every table, from wherever the source is now. Repairs a lost slot or change log
    #[arg(long, conflicts_with_all = ["tables", "endpoint"])]
    all: bool,
    /// All tables of one endpoint, and only to it. Attaches it again if it was detached
    #[arg(long, value_name = "NAME", conflicts_with = "tables")]
    endpoint: Option<EndpointName>,
    #[command(flatten)]
    config: ConfigOption,
}

impl SnapshotArgs {
    /// Leaves the request for the publisher.
    ///
    /// # Errors
    /// The configuration, or a publisher that never ran.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let publisher = self.config.publisher(self.config.load()?)?;
        let state_dir = &publisher.state_dir;
        if !state_dir.is_dir() {
            return Err(Failure::environment(format!(
                "{} (publisher.state_dir) does not exist: no publisher of this file has run here. Its first start \
                 sends every table by itself",
                state_dir.display()
            )));
        }
        // Patterns see a name as one text, however it divides into schema and table.
        let foreign = |name: &&String| !publisher.source.tables.matches(&TableName::bare(name.as_str()));
        if let Some(name) = self.tables.iter().find(foreign) {
            return Err(Failure::usage(format!(
                "{name} is not captured: source.tables in {} does not match it (names are schema.table, SQLite: table)",
                self.config.path().display()
            )));
        }
        let (request, what) = match self.endpoint {
            Some(name) => {
                if !publisher.endpoints.iter().any(|endpoint| endpoint.name == name) {
                    return Err(Failure::usage(format!(
                        "{} has no endpoint {name}",
                        self.config.path().display()
                    )));
                }
                let what = format!("all tables of endpoint {name}");
                (Request::Endpoint(name), what)
            }
            None if self.all => (Request::SnapshotAll, "everything".to_owned()),
            None => (Request::Snapshot(self.tables.clone()), self.tables.join(", ")),
        };
        state::request(state_dir, &request).map_err(|error| Failure::environment(chain(&error)))?;
        output::say(format!(
            "asked for {what}; a running publisher begins within a second, a stopped one at its next start"
        ));
        Ok(())
    }
}
