//! The program against its own servers, against real databases, and against servers that misbehave.

mod against_itself;
mod databases;
mod honesty;
mod mixed;
mod program;
mod watched;
