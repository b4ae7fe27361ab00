//! The text of the file: TOML syntax, tables and keys, and reports that show its errors.
//!
//! Not here: what values mean (`value`, `read`). Next: `table`.

pub(super) mod effect;
pub(super) mod foreign;
pub(super) mod keys;
pub(super) mod report;
pub(super) mod requirement;
pub(super) mod schema;
pub(super) mod sources;
pub(super) mod synonyms;
pub(super) mod syntax;
pub(super) mod table;
pub(super) mod tree;
mod value;
pub(super) mod variables;
