//! The two ends of the demo: both in this process, with a real webhook between them.

use std::net::SocketAddr;
use std::path::Path;

use prometheus::Registry;
use rowbridge_publisher::PublisherStatus;
use rowbridge_schema::SigningKey;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::load;
use crate::serve::Running;

/// What runs, and the publisher's view of it.
pub(super) struct Bridge {
    pub(super) running: Running,
    pub(super) status: watch::Receiver<PublisherStatus>,
    pub(super) address: SocketAddr,
}

/// A path as a TOML string; the escapes of JSON are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The file that `rowbridge run` would take.
fn config(folder: &Path, port: u16, secret: &str) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let sqlite = |name: &str| quoted(&format!("sqlite:{}", path(name)));
    format!(
        "# What `rowbridge demo` ran: a SQLite shop and its copy, both ends in one process.\n\
         shutdown_grace = \"2s\"\n\n\
         [publisher]\nstream = \"shop\"\nstate_dir = {state}\n\n\
         [source]\nkind = \"sqlite\"\nurl = {source}\ntables = [\"*\"]\n\n\
         [[endpoint]]\nname = \"copy\"\nurl = \"http://127.0.0.1:{port}/in/shop\"\nsecret = {secret}\n\n\
         [subscriber]\nlisten = \"127.0.0.1:{port}\"\n\n\
         [target]\nkind = \"sqlite\"\nurl = {target}\n\n\
         [[receive]]\npath = \"/in/shop\"\nstream = \"shop\"\nsecret = {secret}\n",
        state = quoted(&path("state")),
        source = sqlite("shop.db"),
        target = sqlite("copy.db"),
        secret = quoted(secret),
    )
}

impl Bridge {
    /// Starts both ends on a free port, and leaves the configuration in the folder.
    ///
    /// # Errors
    /// No free port, or a folder that cannot be written.
    pub(super) async fn start(folder: &Path, registry: &Registry) -> Result<Self, Failure> {
        let file = folder.join("rowbridge.toml");
        let secret = SigningKey::generate().to_text();
        // The system chooses the port, so the subscriber comes first and the publisher's URL after it.
        let draft = load::parse(&file, &config(folder, 0, &secret))?;
        let mut running = Running::new(draft.shutdown_grace);
        let subscriber =
            draft.subscriber.as_ref().ok_or_else(|| Failure::failed("the demo has no subscriber"))?;
        let (_, address) = running.subscribe(subscriber, registry).await?;
        let text = config(folder, address.port(), &secret);
        std::fs::write(&file, &text)
            .map_err(|error| Failure::environment(format!("cannot write {}: {error}", file.display())))?;
        let publisher = load::parse(&file, &text)?.publisher;
        let publisher = publisher.ok_or_else(|| Failure::failed("the demo has no publisher"))?;
        let status = running.publish(publisher, registry)?;
        Ok(Self { running, status, address })
    }

    /// Existing rows are copied and changes flow.
    pub(super) fn is_streaming(&self) -> bool {
        let status = self.status.borrow();
        !status.lanes.is_empty() && status.problems().is_empty() && status.pump.snapshots == 0
    }

    /// Changes and deliveries that the endpoint has acknowledged, and repeated ones.
    pub(super) fn delivered(&self) -> Delivered {
        let status = self.status.borrow();
        status.lanes.iter().fold(Delivered::default(), |sum, (_, lane)| Delivered {
            changes: sum.changes + lane.changes,
            deliveries: sum.deliveries + lane.deliveries,
            repeated: sum.repeated + lane.repeated,
        })
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) changes: u64,
    pub(super) deliveries: u64,
    pub(super) repeated: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_file_is_valid_whatever_the_folder_is_called() {
        let secret = SigningKey::generate().to_text();
        let folder = Path::new("/tmp/a \"quoted\" folder");
        let config = load::parse(Path::new("x.toml"), &config(folder, 0, &secret)).unwrap();
        assert_eq!(config.publisher.unwrap().state_dir, folder.join("state"));
        assert!(config.subscriber.is_some());
    }
}
