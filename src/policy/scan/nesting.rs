//! Which objects and arrays are open: one bit a level.

use super::wrong::Wrong;

/// The deepest nesting; its stack takes 8 KiB.
pub(super) const DEPTH_MAX: u32 = 65_536;

/// What can be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nest {
    Object,
    Array,
}

/// The stack of what is open.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    depth: u32,
    /// The innermost levels, the last opened in the lowest bit; set: an object.
    inner: u64,
    /// The levels outside of `inner`, 64 a word: most bodies need none.
    outer: Vec<u64>,
}

impl Nesting {
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// What a comma or an end would belong to.
    pub(super) fn innermost(&self) -> Nest {
        if self.inner & 1 == 1 {
            Nest::Object
        } else {
            Nest::Array
        }
    }

    pub(super) fn open(&mut self, nest: Nest) -> Result<(), Wrong> {
        if self.depth == DEPTH_MAX {
            return Err(Wrong::TooDeep);
        }
        if self.depth > 0 && self.depth.is_multiple_of(u64::BITS) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(nest == Nest::Object);
        self.depth += 1;
        Ok(())
    }

    /// Closes the innermost level.
    pub(super) fn close(&mut self) {
        self.inner >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth > 0 && self.depth.is_multiple_of(u64::BITS) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_close_in_the_reverse_order_of_opening() {
        let kind = |level: u32| {
            if level.is_multiple_of(3) {
                Nest::Object
            } else {
                Nest::Array
            }
        };
        let mut nesting = Nesting::default();
        for level in 0..DEPTH_MAX {
            nesting.open(kind(level)).unwrap();
        }
        assert_eq!(nesting.open(Nest::Array), Err(Wrong::TooDeep));
        for level in (0..DEPTH_MAX).rev() {
            assert_eq!(nesting.innermost(), kind(level), "level {level}");
            nesting.close();
        }
        assert_eq!(nesting.depth(), 0);
    }
}
