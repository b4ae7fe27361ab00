//! Traffic over TCP, without a protocol on top.

pub(super) mod crr;
pub(super) mod idle;
pub(super) mod rr;
pub(super) mod stream;
