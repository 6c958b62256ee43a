//! Resident workers with a cheap fork-join.
//!
//! A call publishes one job and bumps a sequence number for each worker it needs. Workers spin for a moment while the
//! pool is held active, so that the steps of one run follow each other without waking anybody; else they sleep.

use crate::error::RunError;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker of an active pool spins before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Spins before giving way to other threads: a short gap between steps must not cost a system call, and on a machine
/// with fewer cores than workers a spinning worker must not hold up the one that has the work.
const SPINS_BEFORE_YIELD: u32 = 200;

/// A fixed set of worker threads. The calling thread is worker 0.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    job: UnsafeCell<Job>,
    /// Workers that have not finished the current job.
    pending: AtomicUsize,
    active: AtomicBool,
    stop: AtomicBool,
    panic: Mutex<Option<String>>,
    slots: Vec<Slot>,
}

/// What a worker waits on, on its own cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Slot {
    sequence: AtomicU64,
    asleep: AtomicBool,
}

/// A borrowed closure without its type.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize, usize),
    parts: usize,
}

// SAFETY: `job` is written only by the thread that has the pool exclusively, while no worker has a job, and is
// published by the sequence numbers; everything else is synchronised by itself.
unsafe impl Sync for Shared {}
// SAFETY: the closure a job points to is `Sync`, and outlives the job because `run_parts` waits for all workers.
unsafe impl Send for Shared {}

/// # Safety
/// `data` must point to a live `F`.
unsafe fn call<F: Fn(usize, usize) + Sync>(data: *const (), part: usize, parts: usize) {
    // SAFETY: by the caller's promise.
    let f = unsafe { &*data.cast::<F>() };
    f(part, parts);
}

/// # Safety
/// None: it does nothing.
unsafe fn nothing(_: *const (), _: usize, _: usize) {}

impl Pool {
    /// Most workers of a pool: more than any machine has cores, few enough to be allocated at once.
    pub const MAX_WORKERS: usize = 4096;

    /// A pool of `workers` workers (at least one), of which the calling thread is one.
    ///
    /// # Errors
    /// [`RunError::Threads`] for more than [`Self::MAX_WORKERS`], or when the system refuses a thread.
    pub fn new(workers: usize) -> Result<Self, RunError> {
        let count = workers.max(1);
        if count > Self::MAX_WORKERS {
            let detail = format!("a session has at most {}", Self::MAX_WORKERS);
            return Err(RunError::Threads { count, detail });
        }
        let slots = (1..count).map(|_| Slot::default()).collect();
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(Job { data: std::ptr::null(), call: nothing, parts: 0 }),
            pending: AtomicUsize::new(0),
            active: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            slots,
        });
        let mut pool = Self { shared, workers: Vec::with_capacity(count - 1) };
        for part in 1..count {
            let shared = Arc::clone(&pool.shared);
            let spawned = thread::Builder::new()
                .name(format!("autoglm-{part}"))
                .spawn(move || shared.work(part))
                .map_err(|e| RunError::Threads { count, detail: e.to_string() })?;
            pool.workers.push(spawned);
        }
        Ok(pool)
    }

    /// Number of workers, the calling thread included.
    pub fn workers(&self) -> usize {
        self.workers.len() + 1
    }

    /// Keeps workers awake between calls (for a moment) until [`Pool::relax`].
    pub fn hold(&mut self) {
        self.shared.active.store(true, Ordering::Relaxed);
    }

    /// Lets idle workers sleep at once.
    pub fn relax(&mut self) {
        self.shared.active.store(false, Ordering::Relaxed);
    }

    /// Runs `f(part, parts)` once on every worker and returns when all are done.
    pub fn run<F: Fn(usize, usize) + Sync>(&mut self, f: F) -> Result<(), RunError> {
        self.run_parts(self.workers(), f)
    }

    /// Runs `f(part, parts)` for all `part < parts`, each on its own worker, and returns when all are done. `parts` is
    /// reduced to the number of workers. A panic in `f` becomes an error, after all parts have ended.
    pub fn run_parts<F: Fn(usize, usize) + Sync>(&mut self, parts: usize, f: F) -> Result<(), RunError> {
        let shared = &*self.shared;
        let parts = parts.clamp(1, shared.slots.len() + 1);
        let job = Job { data: (&raw const f).cast(), call: call::<F>, parts };
        if parts > 1 {
            // SAFETY: `&mut self` excludes other callers, and the previous call waited until no worker had its job.
            unsafe { *shared.job.get() = job };
            shared.pending.store(parts - 1, Ordering::Relaxed);
            for (slot, worker) in shared.slots.iter().zip(&self.workers).take(parts - 1) {
                // Sequentially consistent here and in `wait`: either the worker sees the new number, or it is seen
                // to be asleep.
                slot.sequence.fetch_add(1, Ordering::SeqCst);
                if slot.asleep.load(Ordering::SeqCst) {
                    worker.thread().unpark();
                }
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0, parts)));
        let mut spins = 0;
        while shared.pending.load(Ordering::Acquire) != 0 {
            pause(&mut spins);
        }
        let mut panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(payload) = own {
            *panic = Some(panic_text(payload.as_ref()));
        }
        match panic.take() {
            Some(text) => Err(RunError::Panic(text)),
            None => Ok(()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (slot, worker) in self.shared.slots.iter().zip(&self.workers) {
            slot.sequence.fetch_add(1, Ordering::SeqCst);
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // Workers catch all panics of jobs, so there is nothing to learn from the result.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of worker `part`.
    fn work(&self, part: usize) {
        let Some(slot) = self.slots.get(part - 1) else { return };
        let mut seen = 0;
        loop {
            seen = self.wait(slot, seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the new sequence number says that the job was written for this worker, and it is not written
            // again before `pending` is 0.
            let job = unsafe { *self.job.get() };
            // SAFETY: `run_parts` keeps the closure alive until `pending` is 0.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.data, part, job.parts) }));
            if let Err(payload) = result {
                let text = panic_text(payload.as_ref());
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
            self.pending.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the slot's number differs from `seen` and gives the new one.
    fn wait(&self, slot: &Slot, seen: u64) -> u64 {
        let mut spins = 0;
        let mut since = None;
        while self.active.load(Ordering::Relaxed) {
            let now = slot.sequence.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            pause(&mut spins);
            if spins % 16 == 0 && since.get_or_insert_with(Instant::now).elapsed() > SPIN {
                break;
            }
        }
        loop {
            slot.asleep.store(true, Ordering::SeqCst);
            let now = slot.sequence.load(Ordering::SeqCst);
            if now != seen {
                slot.asleep.store(false, Ordering::Relaxed);
                return now;
            }
            thread::park();
        }
    }
}

/// A moment of waiting, longer for who has waited long.
pub(crate) fn pause(spins: &mut u32) {
    *spins = spins.wrapping_add(1);
    if *spins < SPINS_BEFORE_YIELD {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
