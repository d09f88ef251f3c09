//! Handles: numbers that look like pointers, so that a program that follows one crashes. The last that was given up is given
//! out first, as by the driver's own allocator, so that a table that keeps a dead stream's handle is found out.

/// Where handles of streams begin, and so on; far below any address that is mapped.
pub(crate) const STREAM: usize = 0x1000;
pub(crate) const EVENT: usize = 0x10_0000_0000;
pub(crate) const POOL: usize = 0x20_0000_0000;
pub(crate) const MODULE: usize = 0x30_0000_0000;
pub(crate) const FUNCTION: usize = 0x40_0000_0000;
pub(crate) const LIBRARY: usize = 0x50_0000_0000;
/// Handles are this far apart.
const STEP: usize = 16;

#[derive(Debug)]
pub(crate) struct Slots<T> {
    base: usize,
    slots: Vec<Option<T>>,
    vacant: Vec<usize>,
}

impl<T> Slots<T> {
    pub(crate) const fn new(base: usize) -> Self {
        Self { base, slots: Vec::new(), vacant: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        let at = self.vacant.pop().unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[at] = Some(value);
        self.base + at * STEP
    }

    pub(crate) fn get(&self, handle: usize) -> Option<&T> {
        self.slots.get(self.at(handle)?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, handle: usize) -> Option<&mut T> {
        let at = self.at(handle)?;
        self.slots.get_mut(at)?.as_mut()
    }

    /// The handle of the first for which something holds.
    pub(crate) fn find(&self, is: impl Fn(&T) -> bool) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(&is)).map(|at| self.base + at * STEP)
    }

    pub(crate) fn remove(&mut self, handle: usize) -> Option<T> {
        let at = self.at(handle)?;
        let value = self.slots.get_mut(at)?.take()?;
        self.vacant.push(at);
        Some(value)
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.vacant.clear();
    }

    fn at(&self, handle: usize) -> Option<usize> {
        let far = handle.checked_sub(self.base)?;
        (far % STEP == 0).then_some(far / STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_given_out_again_and_unknown_ones_found_out() {
        let mut slots = Slots::new(EVENT);
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!((slots.get(a), slots.get(b + 1), slots.get(STREAM)), (Some(&'a'), None, None));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!((slots.remove(a), slots.insert('c')), (None, a));
    }
}
