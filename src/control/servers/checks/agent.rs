//! `kind = "agent"`: HAProxy's agent-check, so that existing agents can be used.
//!
//! The agent sends one line of words, separated by blanks or commas (HAProxy configuration manual,
//! `agent-check`): a weight in percent, `ready`, `drain`, `maint`, `up`, `down`, `stopped`, `fail`.
//! `maxconn:N` is accepted and ignored.

use std::time::Duration;

use ringlane_health::{Admin, Advice, Seen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::destination::Destination;
use super::printable;

/// Bytes of the longest line.
const LINE_MAX: usize = 1024;

/// The share of its time in percent for which a check waits for the end of a line; the bytes that
/// have arrived by then count as the line.
const LINE_SHARE: u32 = 75;

pub(super) async fn check(
    send: &[u8],
    destination: &Destination,
    time: Duration,
) -> Result<Seen, String> {
    let until = Instant::now() + time * LINE_SHARE / 100;
    let mut connection = destination.connect().await?;
    let broken = |error| format!("{destination}: {}", destination.text(&error));
    connection.write_all(send).await.map_err(broken)?;
    let mut line = Vec::new();
    while !line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) && line.len() < LINE_MAX {
        let reading = connection.read_buf(&mut line);
        let read = match timeout_at(until, reading).await {
            Ok(read) => read,
            // There is nothing to go by yet: the check ends when its own time is over.
            Err(_) if line.is_empty() => connection.read_buf(&mut line).await,
            Err(_) => break,
        };
        match read {
            Ok(0) => break,
            // Reset after its line, as by an agent that does not read the request.
            Err(_) if !line.is_empty() => break,
            read => read.map_err(broken)?,
        };
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
                return Err(format!("agent reports {word}{why}"));
            }
            word if word.starts_with("maxconn:") => {}
            word => match word.strip_suffix('%').and_then(|percent| percent.parse::<u32>().ok()) {
                Some(percent) => {
                    advice.weight_percent = Some(u8::try_from(percent).unwrap_or(u8::MAX));
                }
                None => return Err(format!("unknown agent reply \"{word}\"")),
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
        assert_eq!(read("down # disk is full").unwrap_err(), "agent reports down (disk is full)");
        assert!(read("fail").is_err() && read("hello").is_err());
    }
}
