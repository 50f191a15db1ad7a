//! A connection pooler before a cluster.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::files::{ids_of, own_uid, owned_temp_dir, tail};
use crate::port::free_port;
use crate::postgres::{Cluster, connect};
use crate::process::{RunAs, guarded, spawn_guarded};
use crate::wait::{self, DEADLINE};

/// PgBouncer on 127.0.0.1 that lets everybody in as `postgres`. Dropping it stops it.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    child: Child,
    folder: TempDir,
}

impl Pooler {
    /// Starts one before a cluster. `mode` is `transaction` or `session`; startup parameters in `ignored` are dropped,
    /// others refused. None when PgBouncer is not installed, which a line says.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(cluster: &Cluster, mode: &str, ignored: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        // Debian's place, which is not in everybody's PATH.
        folders.push("/usr/sbin".into());
        let Some(program) = folders.iter().map(|folder| folder.join("pgbouncer")).find(|path| path.is_file())
        else {
            eprintln!("skipped: PgBouncer is not installed: apt-get install pgbouncer");
            return None;
        };
        // It refuses to run as root too.
        let root = own_uid() == 0;
        let folder = owned_temp_dir("rowbridge-pgbouncer-", root.then(|| ids_of("postgres")));
        let (port, server) = (free_port(), cluster.port());
        let users = folder.path().join("users");
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             ignore_startup_parameters = {ignored}\n",
            users.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let run_as = RunAs { user: "postgres".into() };
        let mut command = guarded(&program, root.then_some(&run_as));
        command.arg(&config).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let pooler = Self { port, child: spawn_guarded(command), folder };
        wait::until("PgBouncer", DEADLINE, || async {
            match connect(&cluster.url_via(port, "postgres")).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error:?}\n{}", tail(&pooler.folder.path().join("log"), 20))),
            }
        })
        .await;
        Some(pooler)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
