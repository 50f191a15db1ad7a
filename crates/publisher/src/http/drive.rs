//! Two halves of one exchange in one task.
//!
//! A connection and the request that waits for it wake each other all the time. Woken through the runtime, the task would
//! be queued anew each time while it still runs, and another thread would be called to take it: as much work as the
//! request itself. Here each half has a bell. One that rings while the two are being polled is answered at once, and only
//! the half whose bell rang is polled.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rounds before the runtime gets its turn, so that a connection that always has something to do holds up nobody.
const MAX_ROUNDS: usize = 16;

/// The task that owns both halves.
struct Owner {
    /// Whether it is at it anyway.
    polling: AtomicBool,
    task: AtomicWaker,
}

/// What wakes one half.
struct Bell {
    rung: AtomicBool,
    owner: Arc<Owner>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order, and the owner's in the other: one of the two sees the other.
        self.rung.store(true, Ordering::SeqCst);
        if !self.owner.polling.load(Ordering::SeqCst) {
            self.owner.task.wake();
        }
    }
}

/// Runs a background half along with futures.
pub(super) struct Drive {
    owner: Arc<Owner>,
    front: (Arc<Bell>, Waker),
    back: (Arc<Bell>, Waker),
}

impl Drive {
    pub(super) fn new() -> Self {
        let owner = Arc::new(Owner { polling: AtomicBool::new(false), task: AtomicWaker::new() });
        let bell = || {
            let bell = Arc::new(Bell { rung: AtomicBool::new(false), owner: Arc::clone(&owner) });
            (Arc::clone(&bell), Waker::from(bell))
        };
        Self { front: bell(), back: bell(), owner }
    }

    /// Runs both until `future` is done. The background half is dropped when it ends; what it has to say, it says to the
    /// future.
    pub(super) async fn run<F: Future>(
        &mut self,
        background: &mut Option<impl Future + Unpin>,
        future: F,
    ) -> F::Output {
        let Self { owner, front: (front, front_waker), back: (back, back_waker) } = self;
        let mut future = std::pin::pin!(future);
        // Neither is known to the other yet, nor to the world.
        front.rung.store(true, Ordering::SeqCst);
        back.rung.store(true, Ordering::SeqCst);
        std::future::poll_fn(|task| {
            owner.task.register(task.waker());
            for _ in 0..MAX_ROUNDS {
                owner.polling.store(true, Ordering::SeqCst);
                if front.rung.swap(false, Ordering::SeqCst)
                    && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(front_waker))
                {
                    owner.polling.store(false, Ordering::SeqCst);
                    return Poll::Ready(output);
                }
                if back.rung.swap(false, Ordering::SeqCst)
                    && let Some(half) = background
                    && Pin::new(half).poll(&mut Context::from_waker(back_waker)).is_ready()
                {
                    *background = None;
                    front.rung.store(true, Ordering::SeqCst);
                }
                owner.polling.store(false, Ordering::SeqCst);
                if !front.rung.load(Ordering::SeqCst) && !back.rung.load(Ordering::SeqCst) {
                    return Poll::Pending;
                }
            }
            task.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_halves_and_the_world_wake_each_other() {
        let mut drive = Drive::new();
        let (to_half, mut from_front) = mpsc::channel::<u32>(1);
        let (to_front, mut from_half) = mpsc::channel::<u32>(1);
        let (to_world, mut from_world) = mpsc::channel::<u32>(1);
        let (back, mut forth) = mpsc::channel::<u32>(1);
        // Somebody on another thread, who adds one.
        tokio::spawn(async move {
            while let Some(number) = from_world.recv().await {
                back.send(number + 1).await.unwrap();
            }
        });
        let mut half = Some(Box::pin(async move {
            while let Some(number) = from_front.recv().await {
                to_world.send(number).await.unwrap();
                to_front.send(forth.recv().await.unwrap()).await.unwrap();
            }
        }));
        // A wake that is lost would stop it for good.
        for number in 0..20_000 {
            let exchange = async {
                to_half.send(number).await.unwrap();
                from_half.recv().await.unwrap()
            };
            let answer = tokio::time::timeout(Duration::from_secs(30), drive.run(&mut half, exchange)).await;
            assert_eq!(answer, Ok(number + 1));
        }
    }

    #[tokio::test]
    async fn a_half_that_ends_is_dropped_and_one_that_never_rests_holds_up_nobody() {
        let mut drive = Drive::new();
        let (tell, told) = oneshot::channel::<()>();
        let mut half = Some(Box::pin(async move { drop(tell) }));
        assert!(drive.run(&mut half, told).await.is_err());
        assert!(half.is_none());
        let mut restless = Some(std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let soon = tokio::time::sleep(Duration::from_millis(20));
        drive.run(&mut restless, soon).await;
    }
}
