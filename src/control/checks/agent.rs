//! `kind = "agent"`: HAProxy's agent-check, so that agents that exist can be used.
//!
//! The server sends one line of words, separated by blanks or commas (HAProxy configuration manual,
//! `agent-check`): a weight in percent, `ready`, `drain`, `maint`, `up`, `down`, `stopped`, `fail`.
//! `maxconn:N` is understood and not acted upon.

use ringlane_core::health::{Admin, Advice, Seen};
use ringlane_core::snapshot::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{connect, plain, printable};

/// Bytes of the longest line.
const LINE_MAX: usize = 1024;

pub(super) async fn check(send: &[u8], address: &Address) -> Result<Seen, String> {
    let mut connection = connect(address).await?;
    let broken = |error| format!("{address}: {}", plain(&error));
    connection.write_all(send).await.map_err(broken)?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < LINE_MAX {
        if connection.read_buf(&mut line).await.map_err(broken)? == 0 {
            break;
        }
    }
    read(&printable(&line))
}

/// What an agent's line means.
fn read(line: &str) -> Result<Seen, String> {
    let mut advice = Advice::default();
    let (line, reason) = line.split_once('#').unwrap_or((line, ""));
    for word in line.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty())
    {
        match word.to_ascii_lowercase().as_str() {
            "ready" => advice.admin = Some(Admin::Ready),
            "drain" => advice.admin = Some(Admin::Drain),
            "maint" => advice.admin = Some(Admin::Maint),
            "up" => {}
            "down" | "stopped" | "fail" => {
                let reason = reason.trim();
                let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                return Err(format!("its agent says {word}{why}"));
            }
            word if word.starts_with("maxconn:") => {}
            word => match word.strip_suffix('%').and_then(|percent| percent.parse::<u32>().ok()) {
                Some(percent) => {
                    advice.weight_percent = Some(u8::try_from(percent).unwrap_or(u8::MAX));
                }
                None => return Err(format!("its agent says \"{word}\", which means nothing")),
            },
        }
    }
    Ok(Seen { advice: Some(advice), ..Seen::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_agents_of_haproxy_say() {
        let advice = |line| read(line).unwrap().advice.unwrap();
        assert_eq!(advice("75%\n").weight_percent, Some(75));
        assert_eq!(advice("up ready, 100%").admin, Some(Admin::Ready));
        assert_eq!(advice("drain maxconn:30").admin, Some(Admin::Drain));
        assert_eq!(advice(""), Advice::default());
        assert_eq!(read("down # disk is full").unwrap_err(), "its agent says down (disk is full)");
        assert!(read("fail").is_err() && read("hello").is_err());
    }
}
