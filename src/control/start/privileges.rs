//! Gives up root for the configured user and group, for good.
//!
//! Not here: capabilities and sandboxes, which the systemd unit sets. Invariant: called after the
//! sockets are bound and before the first shard starts; on error the process must not go on.

use std::ffi::CString;
use std::fmt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, chown, geteuid, initgroups, setgid, setgroups, setuid};

/// Why the process could not become another user.
#[derive(Debug)]
pub enum PrivilegesError {
    /// Only root may do so.
    NotRoot {
        /// The key that requires it.
        key: &'static str,
    },
    /// There is no such user or group here.
    Unknown {
        /// `user` or `group`.
        key: &'static str,
        /// The name that was not found.
        name: String,
    },
    /// The system refused.
    Refused {
        /// The call that failed.
        call: &'static str,
        /// Its error.
        error: nix::Error,
    },
}

impl fmt::Display for PrivilegesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot { key } => write!(
                f,
                "[global] {key} is set, but only root may change it: start ringlane as root, or \
                 remove the key"
            ),
            Self::Unknown { key, name } => write!(
                f,
                "[global] {key} = \"{name}\": this machine has no such {}: create it, or correct the name",
                if key.ends_with("group") { "group" } else { "user" }
            ),
            Self::Refused { call, error } => write!(
                f,
                "could not become the configured user and group ({call}: {error}): in a \
                 container allow CAP_SETUID and CAP_SETGID, or remove [global] user and group"
            ),
        }
    }
}

impl std::error::Error for PrivilegesError {}

/// The user and group that the process is to become.
#[derive(Debug)]
pub(in crate::control) struct Identity {
    user: Option<(CString, Uid)>,
    gid: Gid,
}

impl Identity {
    /// Makes this identity the owner of a file, unless it has another one.
    pub(in crate::control) fn own(
        &self,
        path: &Path,
        other: FileOwner,
    ) -> Result<(), PrivilegesError> {
        let uid = other.uid.or_else(|| self.user.as_ref().map(|(_, uid)| *uid));
        chown(path, uid, Some(other.gid.unwrap_or(self.gid)))
            .map_err(|error| PrivilegesError::Refused { call: "chown of a socket file", error })
    }

    /// Looks the names up; `None` if there is nothing to become.
    pub(in crate::control) fn find(
        user: Option<&str>,
        group: Option<&str>,
    ) -> Result<Option<Self>, PrivilegesError> {
        let key = if user.is_some() { "user" } else { "group" };
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        if !geteuid().is_root() {
            return Err(PrivilegesError::NotRoot { key });
        }
        let user = match user {
            Some(name) => Some(find_user(name)?),
            None => None,
        };
        let gid = match (group, &user) {
            (Some(name), _) => find_group(name)?,
            (None, Some((_, user))) => user.gid,
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { user: user.map(|(name, user)| (name, user.uid)), gid }))
    }

    /// Becomes it. All threads of the process do.
    pub(in crate::control) fn assume(&self) -> Result<(), PrivilegesError> {
        let refused = |call| move |error| PrivilegesError::Refused { call, error };
        match &self.user {
            Some((name, _)) => initgroups(name, self.gid).map_err(refused("initgroups"))?,
            None => setgroups(&[self.gid]).map_err(refused("setgroups"))?,
        }
        setgid(self.gid).map_err(refused("setgid"))?;
        if let Some((_, uid)) = self.user {
            setuid(uid).map_err(refused("setuid"))?;
        }
        Ok(())
    }
}

/// Owner and group that are configured for a file; nothing: as it is made.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::control) struct FileOwner {
    uid: Option<Uid>,
    gid: Option<Gid>,
}

impl FileOwner {
    /// Looks the names up.
    pub(in crate::control) fn find(
        owner: Option<&str>,
        group: Option<&str>,
    ) -> Result<Self, PrivilegesError> {
        let key = |error| match error {
            PrivilegesError::Unknown { key: "user", name } => {
                PrivilegesError::Unknown { key: "admin.socket.owner", name }
            }
            PrivilegesError::Unknown { name, .. } => {
                PrivilegesError::Unknown { key: "admin.socket.group", name }
            }
            other => other,
        };
        Ok(Self {
            uid: owner.map(find_user).transpose().map_err(key)?.map(|(_, user)| user.uid),
            gid: group.map(find_group).transpose().map_err(key)?,
        })
    }

    /// Gives it a file.
    pub(in crate::control) fn apply(self, path: &Path) -> std::io::Result<()> {
        if self.uid.is_none() && self.gid.is_none() {
            return Ok(());
        }
        chown(path, self.uid, self.gid).map_err(std::io::Error::from)
    }
}

fn find_user(name: &str) -> Result<(CString, User), PrivilegesError> {
    let unknown = || PrivilegesError::Unknown { key: "user", name: name.to_owned() };
    let c_name = CString::new(name).map_err(|_| unknown())?;
    match User::from_name(name) {
        Ok(Some(user)) => Ok((c_name, user)),
        Ok(None) => Err(unknown()),
        Err(error) => Err(PrivilegesError::Refused { call: "getpwnam", error }),
    }
}

fn find_group(name: &str) -> Result<Gid, PrivilegesError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(PrivilegesError::Unknown { key: "group", name: name.to_owned() }),
        Err(error) => Err(PrivilegesError::Refused { call: "getgrnam", error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_configured_is_nothing_to_become() {
        assert!(Identity::find(None, None).unwrap().is_none());
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let user = Identity::find(Some("no-such-user"), None).unwrap_err().to_string();
        let group = Identity::find(None, Some("no-such\0group")).unwrap_err().to_string();
        if geteuid().is_root() {
            assert!(user.contains("user = \"no-such-user\""), "{user}");
            assert!(group.contains("group"), "{group}");
        } else {
            assert!(user.contains("only root"), "{user}");
            assert!(group.contains("only root"), "{group}");
        }
    }
}
