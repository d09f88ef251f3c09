//! Which stream belongs to which pool.
//!
//! candle makes a device's stream itself, and of no other priority than the usual one. So whoever wants a lane's device says
//! so first ([`wish`]); the next stream that the thread makes is that lane's. Streams' handles are used again: one that is
//! made without a wish has no route, whatever the one before had.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// What is wished for a stream that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// As CUDA has it: lower numbers go first.
    pub(crate) priority: i32,
    /// The handle of a pool.
    pub(crate) pool: usize,
}

/// Where a stream's memory comes from.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) pool: usize,
    /// Allocations that came this way.
    allocations: Arc<AtomicU64>,
}

static ROUTES: LazyLock<RwLock<HashMap<usize, Route>>> = LazyLock::new(RwLock::default);

thread_local! {
    static WISH: Cell<Option<Wish>> = const { Cell::new(None) };
    static REFUSED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The next stream that the calling thread makes is to be like this.
pub(crate) fn wish(wish: Wish) {
    WISH.set(Some(wish));
}

/// What the calling thread wished for, once.
pub(crate) fn take_wish() -> Option<Wish> {
    WISH.take()
}

/// A stream has been made.
pub(crate) fn made(stream: usize, wish: Option<Wish>) {
    let mut routes = ROUTES.write().unwrap_or_else(PoisonError::into_inner);
    match wish {
        Some(Wish { pool, .. }) => drop(routes.insert(stream, Route { pool, allocations: Arc::default() })),
        None => drop(routes.remove(&stream)),
    }
}

/// Where the memory for a stream comes from; `None` if it is no lane's.
pub(crate) fn of(stream: usize) -> Option<usize> {
    let routes = ROUTES.read().unwrap_or_else(PoisonError::into_inner);
    let route = routes.get(&stream)?;
    route.allocations.fetch_add(1, Ordering::Relaxed);
    Some(route.pool)
}

/// The pool of a stream, and how many allocations for it came this way.
pub(crate) fn seen(stream: usize) -> Option<(usize, u64)> {
    let routes = ROUTES.read().unwrap_or_else(PoisonError::into_inner);
    routes.get(&stream).map(|route| (route.pool, route.allocations.load(Ordering::Relaxed)))
}

/// The calling thread was refused so many bytes.
pub(crate) fn refused(bytes: u64) {
    REFUSED.set(Some(bytes));
}

/// How many bytes the calling thread was refused last, once.
pub(crate) fn take_refused() -> Option<u64> {
    REFUSED.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_is_used_again_has_no_route_unless_it_is_wished_for() {
        let handle = usize::MAX;
        assert_eq!(seen(handle), None);
        wish(Wish { priority: -1, pool: 7 });
        made(handle, take_wish());
        assert_eq!((of(handle), seen(handle)), (Some(7), Some((7, 1))));
        assert_eq!(take_wish(), None, "a wish is for one stream");
        made(handle, take_wish());
        assert_eq!((of(handle), seen(handle)), (None, None));
    }

    #[test]
    fn a_refusal_is_told_once_and_to_the_thread_that_met_it() {
        refused(5);
        std::thread::scope(|scope| scope.spawn(|| assert_eq!(take_refused(), None)).join().expect("well"));
        assert_eq!([take_refused(), take_refused()], [Some(5), None]);
    }
}
