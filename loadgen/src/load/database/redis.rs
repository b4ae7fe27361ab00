//! Redis: pipelines of SET and GET, whose answers are compared with what was set.

use std::fmt;
use std::io;
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use clap::ValueEnum;

use crate::failure::{Failure, ServerSaidNo, corrupt};
use crate::load::kept::Exchanged;
use crate::load::lane::Lane;
use crate::load::wire::Wire;
use crate::random::Random;

/// Which commands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CommandMix {
    /// Only SET.
    Set,
    /// Only GET.
    Get,
    /// One SET to nine GETs.
    Mixed,
}

/// What is asked for.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) command: CommandMix,
    /// Commands that are sent before their answers are waited for.
    pub(crate) pipeline: usize,
    /// Different keys.
    pub(crate) keys: u64,
    /// Bytes of a value.
    pub(crate) size: usize,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("command", &self.command).finish_non_exhaustive()
    }
}

/// An open session.
#[derive(Debug)]
pub(in crate::load) struct Talk {
    wire: Wire,
    setting: Setting,
    random: Random,
    request: Vec<u8>,
    /// The keys that were asked for by GET, `None` for a SET.
    asked: Vec<Option<u64>>,
}

/// An answer.
#[derive(Debug, Eq, PartialEq)]
enum Reply {
    Status,
    Nothing,
    Value(BytesMut),
    Error(String),
}

impl Talk {
    /// Connects, and logs in if there is a password.
    pub(in crate::load) async fn open(lane: &Rc<Lane>, setting: &Setting) -> io::Result<Self> {
        let session = lane.connect().await?;
        let seed = session.number();
        let mut talk = Self {
            wire: Wire::new(session),
            setting: setting.clone(),
            random: Random::new(seed),
            request: Vec::new(),
            asked: Vec::new(),
        };
        if let Some(password) = &setting.password {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(setting.user.as_ref().map(|user| user.as_bytes()));
            words.push(password.as_bytes());
            let mut login = Vec::new();
            write_command(&words, &mut login);
            talk.wire.send(login).await?;
            talk.expect(None).await?;
        }
        Ok(talk)
    }

    /// One pipeline.
    pub(in crate::load) async fn exchange(&mut self) -> io::Result<Exchanged> {
        self.write_pipeline();
        let request = std::mem::take(&mut self.request);
        let sent = request.len() as u64;
        self.request = self.wire.send(request).await?;
        let mut received = 0;
        let asked = std::mem::take(&mut self.asked);
        let mut refused = None;
        for key in &asked {
            match self.expect(*key).await {
                Ok(size) => received += size,
                // The other answers come all the same.
                Err(error) if Failure::of(&error) == Failure::ServerSaidNo => {
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.asked = asked;
        refused.map_or(Ok(()), Err)?;
        Ok(Exchanged { operations: self.setting.pipeline as u64, sent, received })
    }

    fn write_pipeline(&mut self) {
        self.request.clear();
        self.asked.clear();
        for _ in 0..self.setting.pipeline {
            let key = self.random.below(self.setting.keys);
            let name = format!("loadgen:{key}");
            let sets = match self.setting.command {
                CommandMix::Set => true,
                CommandMix::Get => false,
                CommandMix::Mixed => self.random.below(10) == 0,
            };
            if sets {
                let value = value(key, self.setting.size);
                write_command(&[b"SET", name.as_bytes(), &value], &mut self.request);
            } else {
                write_command(&[b"GET", name.as_bytes()], &mut self.request);
            }
            self.asked.push((!sets).then_some(key));
        }
    }

    /// Waits for one answer, to a GET of this key or to something without a value; returns its
    /// size.
    async fn expect(&mut self, key: Option<u64>) -> io::Result<u64> {
        let (reply, size) = loop {
            let before = self.wire.input.len();
            if let Some(reply) = parse(&mut self.wire.input)? {
                break (reply, (before - self.wire.input.len()) as u64);
            }
            self.wire.receive().await?;
        };
        match (reply, key) {
            (Reply::Error(words), _) => Err(ServerSaidNo::error(words)),
            (Reply::Status, None) | (Reply::Nothing, Some(_)) => Ok(size),
            (Reply::Value(bytes), Some(key)) if bytes[..] == value(key, bytes.len()) => Ok(size),
            (Reply::Value(_), Some(key)) => Err(corrupt(format!("the value of key {key}"))),
            (reply, _) => Err(corrupt(format!("an answer to another question: {reply:?}"))),
        }
    }
}

/// The value of a key: its number again and again, cut at `size`.
fn value(key: u64, size: usize) -> Vec<u8> {
    key.to_be_bytes().into_iter().map(|byte| byte | 0x40).cycle().take(size).collect()
}

fn write_command(words: &[&[u8]], to: &mut Vec<u8>) {
    to.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        to.extend(format!("${}\r\n", word.len()).bytes());
        to.extend(*word);
        to.extend(b"\r\n");
    }
}

/// Takes the first answer off the input; `None` if it has not all come.
fn parse(input: &mut BytesMut) -> io::Result<Option<Reply>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&input[..end]).into_owned();
    let mut characters = line.chars();
    let (kind, rest) = (characters.next(), characters.as_str());
    let reply = match kind {
        Some('+' | ':') => Reply::Status,
        Some('-') => Reply::Error(rest.to_owned()),
        Some('$') if rest == "-1" => Reply::Nothing,
        Some('_') => Reply::Nothing,
        Some('$') => {
            let size = rest.parse::<u32>().map_err(|_| not_redis(&line))? as usize;
            let Some(whole) = (end + 2).checked_add(size + 2) else { return Err(not_redis(&line)) };
            if input.len() < whole {
                return Ok(None);
            }
            input.advance(end + 2);
            let value = input.split_to(size);
            input.advance(2);
            return Ok(Some(Reply::Value(value)));
        }
        _ => return Err(not_redis(&line)),
    };
    input.advance(end + 2);
    Ok(Some(reply))
}

fn not_redis(line: &str) -> io::Error {
    let begin: String = line.chars().take(40).collect();
    corrupt(format!("this is not an answer of Redis: {begin:?}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_taken_one_by_one_as_they_come() {
        let wire = b"+OK\r\n$3\r\na\r\n\r\n$-1\r\n-ERR no\r\n";
        let whole = vec![
            Reply::Status,
            Reply::Value(BytesMut::from(&b"a\r\n"[..])),
            Reply::Nothing,
            Reply::Error("ERR no".to_owned()),
        ];
        let (mut input, mut replies) = (BytesMut::new(), Vec::new());
        for byte in wire {
            input.extend([*byte]);
            replies.extend(parse(&mut input).unwrap());
        }
        assert_eq!(replies, whole);
        assert!(input.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_that_comes_breaks_the_reader(bytes: Vec<u8>) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = parse(&mut input) {}
        }
    }
}
