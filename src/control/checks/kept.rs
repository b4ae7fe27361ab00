//! The connection that a check with `login = "kept"` uses again.
//!
//! Invariant: whatever the server makes of the kept connection, at least every [`LOGIN_EVERY`]th check
//! logs in as a new client does, so that a server that lets nobody in any more is noticed.

/// A check with `login = "kept"` logs in anew each time that it has asked so often on one connection.
pub(super) const LOGIN_EVERY: u32 = 10;

/// What is kept of a login, and how often it was used.
pub(super) struct Kept<C> {
    connection: Option<C>,
    used: u32,
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self { connection: None, used: 0 }
    }
}

/// What a check does with the connection of the last one.
pub(super) enum Next<C> {
    /// It asks on it.
    Ask(C),
    /// It logs in, as a new client must, and leaves this one in order then: not before, since the place
    /// that it gives up would be the one that the login gets.
    LogInBeside(C),
    /// There is none: it logs in.
    LogIn,
}

impl<C> Kept<C> {
    /// The connection of the last check, for the next one.
    pub(super) fn next(&mut self) -> Next<C> {
        match self.connection.take() {
            Some(connection) if self.used < LOGIN_EVERY => Next::Ask(connection),
            Some(connection) => Next::LogInBeside(connection),
            None => Next::LogIn,
        }
    }

    /// Keeps a connection that has just logged in and was asked.
    pub(super) fn begin(&mut self, connection: C) {
        *self = Self { connection: Some(connection), used: 1 };
    }

    /// Keeps the connection beside which no login was possible: given up, its place would be the one that
    /// the next login gets, and the server would count as up again, for this check alone.
    pub(super) fn hold(&mut self, connection: C) {
        *self = Self { connection: Some(connection), used: LOGIN_EVERY };
    }

    /// Keeps a connection that was asked again.
    pub(super) fn go_on(&mut self, connection: C) {
        *self = Self { connection: Some(connection), used: self.used + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenth_check_logs_in() {
        let mut kept = Kept::default();
        let logins = (0..3 * LOGIN_EVERY).filter(|_| match kept.next() {
            Next::Ask(()) => {
                kept.go_on(());
                false
            }
            Next::LogInBeside(()) | Next::LogIn => {
                kept.begin(());
                true
            }
        });
        assert_eq!(logins.collect::<Vec<_>>(), [0, LOGIN_EVERY, 2 * LOGIN_EVERY]);
        kept.hold(());
        assert!(matches!(kept.next(), Next::LogInBeside(())), "until a login is possible");
    }
}
