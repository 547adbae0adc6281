//! Locks a mutex whose data a panic of another thread leaves usable.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The data of `mutex`.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
