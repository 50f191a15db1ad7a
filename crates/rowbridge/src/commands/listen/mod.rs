//! `rowbridge listen`: a receiver for developers. It prints what arrives and whether the signature holds, and answers what
//! it was told: any status, late, failing, or not at all.
//!
//! ```text
//! server -> receive (read, verify, inflate) -> content (what is it?) -> recorder (count, decide, print) -> answer
//! ```

mod behave;
mod clock;
mod content;
mod inflate;
mod json;
mod lanes;
mod line;
mod options;
mod receive;
mod recorder;
mod render;
mod request;
mod save;
mod seen;
mod server;
mod signature;
mod summary;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub(crate) use self::options::ListenArgs;
use self::options::Options;
use self::receive::{End, Receiver};
use self::save::Folder;
use crate::failure::Failure;
use crate::output;
use crate::signals::StopSignals;

/// Beyond `--delay`, for answers that are on their way at the end.
const GRACE: Duration = Duration::from_secs(2);

impl ListenArgs {
    /// Receives until Ctrl-C or `--count`.
    ///
    /// # Errors
    /// Wrong arguments (2); the address is taken, files cannot be written (3).
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let options = self.check()?;
        let mut signals = StopSignals::listen()
            .map_err(|error| Failure::environment(format!("cannot listen for signals: {error}")))?;
        let folder = match options.save.clone() {
            Some(path) => Some(Folder::open(path, SystemTime::now())?),
            None => None,
        };
        let (listener, address) = bind(options.address).await?;
        if !address.ip().is_loopback() {
            output::say(format!("warning: {address} is open to the network; whoever reaches it is answered"));
        }
        output::line(greeting(&options, address))?;

        let grace = options.answers.delay + GRACE;
        let (end, mut ended) = mpsc::unbounded_channel();
        let receiver = Arc::new(Receiver::new(options, folder, end));
        let (stop, stopping) = watch::channel(false);
        let mut server = tokio::spawn(server::serve(listener, Arc::clone(&receiver), stopping, grace));
        let result = tokio::select! {
            _ = signals.next() => Ok(()),
            end = ended.recv() => match end {
                Some(End::Failed(failure)) => Err(failure),
                Some(End::Counted) | None => Ok(()),
            },
        };
        stop.send_replace(true);
        tokio::select! {
            _ = &mut server => {}
            _ = signals.next() => server.abort(),
        }
        result?;
        receiver.recorder().summarize()
    }
}

async fn bind(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = async {
        let listener = TcpListener::bind(wanted).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => {
                format!(
                    "Another process listens there (`ss -ltnp 'sport = :{}'` names it). Take another port with --port, \
                     or a free one with --port 0.",
                    wanted.port()
                )
            }
            ErrorKind::PermissionDenied => "Ports below 1024 are the system's: take another with --port.".to_owned(),
            _ => "Take an address of this machine with --listen, or 127.0.0.1 with --port.".to_owned(),
        };
        Failure::environment(format!("cannot listen on {wanted}: {error}")).hint(Some(hint))
    })
}

fn greeting(options: &Options, address: SocketAddr) -> String {
    let url = format!("http://{address}{}", options.path.as_deref().unwrap_or("/"));
    match options.json {
        true => serde_json::json!({ "event": "listening", "address": address, "url": url }).to_string(),
        false => format!("listening on {url}; Ctrl-C ends it"),
    }
}
