//! Addresses of listeners in the file, to find those that are bound twice.
//!
//! Not here: whether an address can be bound on this host (`control::start::sockets`).

use std::collections::HashMap;
use std::ops::Range;

use ringlane_core::machine::Address;

use crate::config::text::report::Diagnostic;
use crate::config::text::table::Table;

/// The addresses that are bound, with place and name of the listener.
#[derive(Debug, Default)]
pub(in crate::config) struct BoundAddresses(HashMap<Address, (Range<usize>, String)>);

impl BoundAddresses {
    /// Records that `table` binds `address`; an error if another listener already does.
    pub(in crate::config) fn claim(
        &mut self,
        table: &Table<'_>,
        address: &Address,
        span: Range<usize>,
    ) {
        // With port 0, the kernel chooses a free port each time.
        if matches!(address, Address::Inet(inet) if inet.port() == 0) {
            return;
        }
        if let Some((first, owner)) = self.0.get(address) {
            let title = format!("{address} is bound twice");
            table.report(
                Diagnostic::at(span, title)
                    .label(format!("again by {}", table.called()))
                    .also(first.clone(), format!("first by {owner}"))
                    .hint("each address can have only one listener"),
            );
            return;
        }
        self.0.insert(address.clone(), (span, table.called()));
    }
}
