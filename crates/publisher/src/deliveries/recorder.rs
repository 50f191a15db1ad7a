//! The store as the running publisher uses it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rowbridge_schema::EndpointName;
use tokio::sync::{oneshot, watch};

use super::attempt::Attempt;
use super::claim::{self, Settled};
use super::endpoint::{self, EndpointChange};
use super::error::{StoreError, WorkError};
use super::job::{self, Job, JobEnd, Progress};
use super::letter::{self, Letter, NewLetter};
use super::queue::{Dropped, Operation, Queue};
use super::store::Store;
use super::writer::{Work, Writer};
use super::{Limits, now_ms};

/// The one writer of a running publisher. Share it in an `Arc`; dropping it writes what waits and closes the file.
///
/// The futures are cancel safe in that what they ask for is done whole or not at all; one that was dropped may have been
/// done.
pub struct Recorder {
    store: Store,
    queue: Arc<Queue>,
    requests: watch::Receiver<u64>,
    changes: watch::Sender<u64>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("path", &self.store.path()).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Opens or makes the file of a publisher, whose lock on the folder the caller holds.
    ///
    /// # Errors
    /// The file's, or a file of a later version.
    pub fn open(state_dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        let store = Store::open_file(state_dir, true)?;
        let queue = Arc::new(Queue::new(limits.queue_bytes));
        let (sender, requests) = watch::channel(0);
        let writer = Writer::open(store.path(), limits, Arc::clone(&queue), sender)?;
        let thread = std::thread::Builder::new()
            .name("deliveries".to_owned())
            .spawn(move || writer.run())
            .map_err(|_| StoreError::Closed)?;
        Ok(Self { store, queue, requests, changes: watch::Sender::new(0), thread: Some(thread) })
    }

    /// Everything that reads: jobs to do, endpoints that are paused, events for alerts.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Rises after a command has left or changed something. Look then at [`Store::open_jobs`] and [`Store::endpoints`];
    /// look at them once at the start too, for what was left while no publisher ran.
    #[must_use]
    pub fn requests(&self) -> watch::Receiver<u64> {
        self.requests.clone()
    }

    /// Rises after [`Self::change_endpoint`] has changed something.
    #[must_use]
    pub fn endpoint_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Attempts that were not recorded.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.queue.dropped()
    }

    /// Records an attempt soon. Never waits; see [`Dropped`].
    pub fn attempt(&self, attempt: Attempt) {
        self.queue.attempt(attempt);
    }

    /// Sets an event aside. Returns its number once it is on disk; the lane may go on then, and not before.
    ///
    /// # Errors
    /// [`StoreError::Full`]: nothing is recorded and the lane has to hold the event; and the file's.
    pub async fn dead_letter(&self, letter: NewLetter) -> Result<i64, StoreError> {
        self.call(move |work| letter::insert(work.db, work.limits, &letter)).await
    }

    /// Takes up to `limit` letters of a retry job that runs, the oldest first, with their bodies. Nothing: the job is done,
    /// or was called off. Each letter has to be [settled](Self::settle).
    ///
    /// # Errors
    /// The file's.
    pub async fn claim(&self, job: i64, limit: u32) -> Result<Vec<Letter>, StoreError> {
        self.call(move |work| Ok(claim::claim(work.db, job, limit)?)).await
    }

    /// Writes down how a claimed letter ended; false if it was discarded meanwhile.
    ///
    /// # Errors
    /// The file's.
    pub async fn settle(&self, letter: i64, settled: Settled) -> Result<bool, StoreError> {
        self.call(move |work| Ok(claim::settle(work.db, letter, &settled, now_ms())?)).await
    }

    /// Begins a job, or goes on with one that was cut short; letters that it had in hand are to be claimed again. `None`: it
    /// was called off, or has ended.
    ///
    /// # Errors
    /// The file's.
    pub async fn start(&self, job: i64) -> Result<Option<Job>, StoreError> {
        self.call(move |work| Ok(job::start(work.db, job)?)).await
    }

    /// Writes down how far a job is; false: it was called off, stop it.
    ///
    /// # Errors
    /// The file's.
    pub async fn progress(&self, job: i64, progress: Progress) -> Result<bool, StoreError> {
        self.call(move |work| Ok(job::progress(work.db, job, &progress)?)).await
    }

    /// Ends a job; false if it had ended, or was called off.
    ///
    /// # Errors
    /// The file's.
    pub async fn finish(&self, job: i64, end: JobEnd) -> Result<bool, StoreError> {
        self.call(move |work| Ok(job::finish(work.db, job, &end, None)?)).await
    }

    /// Ends a test with the attempt that it made, which is recorded too, whatever came of it.
    ///
    /// # Errors
    /// The file's.
    pub async fn finish_test(&self, job: i64, attempt: Attempt) -> Result<bool, StoreError> {
        self.call(move |work| {
            let id = work.attempt(&attempt)?;
            Ok(job::finish(work.db, job, &JobEnd::Done, Some(id))?)
        })
        .await
    }

    /// Changes an endpoint and appends the event; false if it already was so.
    ///
    /// # Errors
    /// The file's.
    pub async fn change_endpoint(
        &self,
        name: &EndpointName,
        change: EndpointChange,
    ) -> Result<bool, StoreError> {
        let name = name.clone();
        let changed = self.call(move |work| Ok(endpoint::change(work.db, &name, &change, now_ms())?)).await?;
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(changed)
    }

    /// Moves a reader of [`Store::events`] on.
    ///
    /// # Errors
    /// The file's.
    pub async fn set_cursor(&self, reader: &str, event: i64) -> Result<(), StoreError> {
        let reader = reader.to_owned();
        self.call(move |work| Ok(endpoint::set_cursor(work.db, &reader, event)?)).await
    }

    /// Ends when everything that was handed over before is on disk.
    ///
    /// # Errors
    /// The file's.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.call(|_| Ok(())).await
    }

    async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Work<'_>) -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let path = self.store.path().to_owned();
        let call = Call { path, run: Some(run), result: None, reply };
        if !self.queue.operation(Box::new(call)) {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Call<T, F> {
    path: std::path::PathBuf,
    run: Option<F>,
    result: Option<Result<T, WorkError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Work<'_>) -> Result<T, WorkError> + Send> Operation for Call<T, F> {
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), ()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let result = run(work);
        let done = result.as_ref().map(drop).map_err(drop);
        self.result = Some(result);
        done
    }

    fn finish(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>) {
        let Self { path, result, reply, .. } = *self;
        let answer = match (result, committed) {
            (Some(Err(error)), _) => Err(error.at(&path)),
            (_, Err(source)) => Err(StoreError::Database { path, source }),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // Whoever stopped waiting does not want to know.
        let _ = reply.send(answer);
    }
}
