//! Where servers are, whatever the configuration: what a name gives changes while it is served.
//!
//! Each generation keeps the places of its own servers, and those of one server are the same in
//! all of them. Not here: who finds the addresses (the control side).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use ringlane_core::ids::Tag;
use ringlane_core::machine::Address;

/// Where one server is; nothing for one that has no address.
#[derive(Debug, Default)]
pub(crate) struct Place(RefCell<Option<Rc<Address>>>);

impl Place {
    /// The address now.
    pub(crate) fn get(&self) -> Option<Rc<Address>> {
        self.0.borrow().clone()
    }

    fn set(&self, address: Option<Address>) {
        let mut own = self.0.borrow_mut();
        // Connects to the same address go on sharing it.
        if own.as_deref() != address.as_ref() {
            *own = address.map(Rc::new);
        }
    }
}

/// The places of all servers of all generations that are left.
#[derive(Debug, Default)]
pub(crate) struct Addresses(RefCell<HashMap<Tag, Weak<Place>>>);

impl Addresses {
    /// The place of a server, which is at this address now.
    pub(crate) fn place(&self, tag: Tag, address: Option<Address>) -> Rc<Place> {
        let mut places = self.0.borrow_mut();
        let place = places.get(&tag).and_then(Weak::upgrade).unwrap_or_else(|| {
            let place = Rc::default();
            places.insert(tag, Rc::downgrade(&place));
            place
        });
        place.set(address);
        place
    }

    /// A server is somewhere else from now on.
    pub(crate) fn moved(&self, tag: Tag, address: Option<Address>) {
        if let Some(place) = self.0.borrow().get(&tag).and_then(Weak::upgrade) {
            place.set(address);
        }
    }

    /// Whether a generation that is left has this server.
    pub(crate) fn has(&self, tag: Tag) -> bool {
        self.0.borrow().get(&tag).is_some_and(|place| place.strong_count() > 0)
    }

    /// Forgets servers that no generation has any more.
    pub(crate) fn prune(&self) {
        self.0.borrow_mut().retain(|_, place| place.strong_count() > 0);
    }
}
