//! How far a message has come that a parser is given in pieces.

/// What a parser makes of all that has come so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parsed<T> {
    /// A whole message.
    Whole(T),
    /// The beginning of one: more bytes are needed.
    Part,
    /// Something else.
    Invalid,
}
