//! Traffic that databases understand.

pub(super) mod pgsql;
pub(super) mod redis;
