//! A slab whose keys stay distinct when a slot is reused.
//!
//! Operations, tasks and timers are named by a `Key` that outlives them: a completion may arrive
//! after its operation was given up. The generation distinguishes the old entry of a slot from the
//! new one, so a late key finds nothing instead of another entry. Invariant: no two insertions of
//! the last 2^31 - 1 into one slot share a key, and no key uses the top bit of its 64.

use std::num::NonZeroU32;

/// Names one entry: slot and generation.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    index: u32,
    // Never zero, so that an `Option<Key>` is no larger than a key: sessions hold many.
    generation: NonZeroU32,
}

impl Key {
    /// A key that no slab ever gives out.
    pub(crate) const NOBODY: Self = Self { index: u32::MAX, generation: GENERATION_MAX };

    /// The key as 64 bits that the kernel hands back untouched.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.index)
    }

    /// A key from such bits.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let generation = NonZeroU32::new((bits >> 32) as u32);
        generation.map_or(Self::NOBODY, |generation| Self { index: bits as u32, generation })
    }
}

const GENERATION_MAX: NonZeroU32 = NonZeroU32::new(u32::MAX >> 1).unwrap();

/// The generation after this one, which no key of the last 2^31 - 1 tenants has.
const fn after(generation: NonZeroU32) -> NonZeroU32 {
    match NonZeroU32::new((generation.get() + 1) & GENERATION_MAX.get()) {
        Some(next) => next,
        None => NonZeroU32::MIN,
    }
}

/// The entries. Grows to the most that were ever live at once, which what inserts into it bounds.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: NonZeroU32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Live entries.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        // Two to the 32 entries would not fit into memory first.
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let generation = NonZeroU32::MIN;
        self.slots.push(Slot { generation, value: Some(value) });
        Key { index, generation }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = after(slot.generation);
        self.free.push(key.index);
        Some(value)
    }

    /// The keys of all live entries.
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(index, slot)| Key { index, generation: slot.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_key_of_the_former_tenant_finds_nothing() {
        let mut slab = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut "new"));
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_does(operations in prop::collection::vec(any::<Option<u8>>(), 1..200)) {
            let mut slab = Slab::new();
            let mut model = HashMap::new();
            for (n, operation) in operations.into_iter().enumerate() {
                if let Some(pick) = operation && !model.is_empty() {
                    let key = *model.keys().nth(usize::from(pick) % model.len()).unwrap();
                    prop_assert_eq!(slab.remove(key), model.remove(&key));
                    prop_assert_eq!(slab.get_mut(key), None);
                } else {
                    model.insert(slab.insert(n), n);
                }
                prop_assert_eq!(slab.len(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(Key::from_bits(key.to_bits()), *key);
                    prop_assert_eq!(slab.get_mut(*key), Some(&mut value.clone()));
                }
            }
            prop_assert_eq!(slab.keys().len(), model.len());
        }
    }
}
