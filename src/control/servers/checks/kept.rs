//! The connection that a check with `login = "kept"` uses again.
//!
//! Invariant: at least every [`LOGIN_EVERY`]th check logs in as a new client does, so that a server
//! that accepts no more logins is noticed.

use super::destination::Destination;
use crate::config::Login;

/// Number of checks on one connection after which a check with `login = "kept"` logs in again.
const LOGIN_EVERY: u32 = 10;

/// A login, what is kept of it, and how often that was used.
pub(super) struct Kept<'a, C> {
    login: &'a Login,
    connection: Option<C>,
    used: u32,
}

/// A database session that can be queried repeatedly.
pub(super) trait Session: Sized {
    /// What the server answers, as its kind of check reads it.
    type Answer;

    /// Logs in as a new client does; an error is a phrase for operators.
    async fn log_in(login: &Login, destination: &Destination) -> Result<Self, String>;

    /// Queries what the check needs.
    async fn ask(&mut self, destination: &Destination) -> Result<Self::Answer, String>;

    /// Ends it in order, beside the checks.
    fn leave(self);
}

/// What a check does with the connection of the last one.
enum Next<C> {
    /// It uses the connection.
    Ask(C),
    /// It logs in, as a new client must, and closes this connection afterwards: closed before, its
    /// slot would go to the login.
    LogInBeside(C),
    /// There is none: it logs in.
    LogIn,
}

impl<'a, C> Kept<'a, C> {
    pub(super) fn new(login: &'a Login) -> Self {
        Self { login, connection: None, used: 0 }
    }

    /// The connection of the last check, for the next one.
    fn next(&mut self) -> Next<C> {
        match self.connection.take() {
            Some(connection) if self.used < LOGIN_EVERY => Next::Ask(connection),
            Some(connection) => Next::LogInBeside(connection),
            None => Next::LogIn,
        }
    }

    /// Keeps a connection that has just logged in and was queried once.
    fn begin(&mut self, connection: C) {
        (self.connection, self.used) = (Some(connection), 1);
    }

    /// Keeps the connection after a failed login: if it were closed, its slot would go to the next
    /// login, and the server would count as up again although it is full.
    fn hold(&mut self, connection: C) {
        (self.connection, self.used) = (Some(connection), LOGIN_EVERY);
    }

    /// Keeps a connection that was queried again.
    fn go_on(&mut self, connection: C) {
        (self.connection, self.used) = (Some(connection), self.used + 1);
    }
}

impl<S: Session> Kept<'_, S> {
    /// One check: on the kept session where there is one, else with a login.
    pub(super) async fn check(&mut self, destination: &Destination) -> Result<S::Answer, String> {
        let old = match self.next() {
            // One that fails may have been closed for its silence: then a new client decides.
            Next::Ask(mut session) => {
                if let Ok(answer) = session.ask(destination).await {
                    self.go_on(session);
                    return Ok(answer);
                }
                None
            }
            Next::LogInBeside(session) => Some(session),
            Next::LogIn => None,
        };
        let (session, answer) = match log_in_and_ask::<S>(self.login, destination).await {
            Ok(found) => found,
            Err(why) => {
                if let Some(old) = old {
                    self.hold(old);
                }
                return Err(why);
            }
        };
        if let Some(old) = old {
            old.leave();
        }
        if self.login.kept {
            self.begin(session);
        } else {
            session.leave();
        }
        Ok(answer)
    }
}

/// Logs in as a new client and queries.
async fn log_in_and_ask<S: Session>(
    login: &Login,
    destination: &Destination,
) -> Result<(S, S::Answer), String> {
    let mut session = S::log_in(login, destination).await?;
    let answer = session.ask(destination).await?;
    Ok((session, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenth_check_logs_in() {
        let login = Login::default();
        let mut kept = Kept::new(&login);
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
