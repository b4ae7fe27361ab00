//! How sessions end before a server is chosen for them.

use ringlane_core::counters::{Cause, Close, Phase};

/// The client left before its first message was answered or passed on.
pub const LEFT: Close = Close { cause: Cause::Client, phase: Phase::Request };

/// It was refused.
pub const REFUSED: Close = Close { cause: Cause::Refused, phase: Phase::Request };
