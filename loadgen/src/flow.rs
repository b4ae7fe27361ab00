//! A stream of numbered datagrams as its receiver sees it: loss, reordering, doubles, jitter.
//! Pure: told of numbers and times, knows no socket.
//!
//! Jitter is that of RFC 3550: the smoothed difference of transit times of neighbours, in which the
//! distance between the two clocks cancels out.

/// Numbers back that a double is recognised; one that comes later counts as reordered.
const WINDOW: u64 = 1 << 12;

/// Bytes at the head of every datagram.
pub(crate) const HEADER: usize = 24;

/// The head of a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// What kind of datagram, and which flow it belongs to.
    pub(crate) flow: u64,
    /// From 0.
    pub(crate) sequence: u64,
    /// When it was sent, on the sender's clock.
    pub(crate) sent_ns: u64,
}

impl Header {
    /// Writes it over the first bytes.
    pub(crate) fn write(self, datagram: &mut [u8]) {
        let words = [self.flow, self.sequence, self.sent_ns];
        for (place, word) in datagram.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Reads the first bytes; `None` if they are too few.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let mut words = datagram.get(..HEADER)?.chunks_exact(8).map(word);
        Some(Self { flow: words.next()?, sequence: words.next()?, sent_ns: words.next()? })
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte))
}

/// What a datagram is: the highest byte of its flow's number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Word {
    /// One of many.
    Data,
    /// To a sink: what arrived?
    Ask,
    /// The answer to `Ask` and `Stop`.
    Report,
    /// To a source: send, so many thousandths a second, of so many bytes.
    Order,
    /// To a source: that was enough; how many were they?
    Stop,
}

impl Word {
    /// The bits of a flow's own number.
    pub(crate) const FLOW: u64 = (1 << 56) - 1;

    const ALL: [Self; 5] = [Self::Data, Self::Ask, Self::Report, Self::Order, Self::Stop];

    /// What a datagram with this number is; anything unknown is data.
    pub(crate) fn of(flow: u64) -> Self {
        Self::ALL.get((flow >> 56) as usize).copied().unwrap_or(Self::Data)
    }

    /// This word about a flow.
    pub(crate) fn with(self, flow: u64) -> u64 {
        (flow & Self::FLOW) | ((self as u64) << 56)
    }
}

/// What arrived of one flow, or of several after merging.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    /// Datagrams that were sent, as far as is known.
    pub(crate) sent: u64,
    /// Different datagrams that arrived.
    pub(crate) received: u64,
    pub(crate) bytes: u64,
    /// Arrived after one with a higher number.
    pub(crate) reordered: u64,
    /// Arrived once more.
    pub(crate) doubled: u64,
    /// Nanoseconds; the worst one after merging.
    pub(crate) jitter_ns: f64,
    /// The highest number that arrived, plus one.
    next: u64,
    last_transit: Option<i64>,
    seen: Vec<u64>,
}

impl Flow {
    /// So many datagrams of which nothing else is known.
    pub(crate) fn of(received: u64) -> Self {
        Self { received, ..Self::default() }
    }

    /// Counts an arrival, at `now_ns` on the receiver's clock.
    pub(crate) fn arrived(&mut self, header: Header, bytes: usize, now_ns: u64) {
        if self.is_double(header.sequence) {
            self.doubled += 1;
            return;
        }
        self.received += 1;
        self.bytes += bytes as u64;
        self.reordered += u64::from(header.sequence < self.next);
        self.next = self.next.max(header.sequence.saturating_add(1));
        let transit = now_ns.wrapping_sub(header.sent_ns) as i64;
        if let Some(last) = self.last_transit.replace(transit) {
            let difference = transit.wrapping_sub(last).unsigned_abs() as f64;
            self.jitter_ns += (difference - self.jitter_ns) / 16.0;
        }
    }

    fn is_double(&mut self, sequence: u64) -> bool {
        if self.seen.is_empty() {
            self.seen = vec![u64::MAX; WINDOW as usize];
        }
        let place = &mut self.seen[(sequence % WINDOW) as usize];
        std::mem::replace(place, sequence) == sequence
    }

    /// Those that were sent and did not arrive.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// The part that did not arrive, from 0 to 1.
    pub(crate) fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    /// Adds another flow's figures.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.bytes += other.bytes;
        self.reordered += other.reordered;
        self.doubled += other.doubled;
        self.jitter_ns = self.jitter_ns.max(other.jitter_ns);
    }

    /// As a sink reports it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let jitter = self.jitter_ns as u64;
        [self.received, self.bytes, self.reordered, self.doubled, jitter]
            .into_iter()
            .flat_map(u64::to_be_bytes)
            .collect()
    }

    /// What a sink reported about `sent` datagrams; `None` if it is too short.
    pub(crate) fn decode(wire: &[u8], sent: u64) -> Option<Self> {
        let mut words = wire.chunks_exact(8).map(word);
        Some(Self {
            sent,
            received: words.next()?,
            bytes: words.next()?,
            reordered: words.next()?,
            doubled: words.next()?,
            jitter_ns: words.next()? as f64,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(sequence: u64) -> Header {
        Header { flow: 1, sequence, sent_ns: sequence * 1000 }
    }

    #[test]
    fn loss_reordering_doubles_and_jitter_are_told_apart() {
        let mut flow = Flow { sent: 10, ..Flow::default() };
        for sequence in [0, 1, 3, 2, 2, 6, 7, 8] {
            flow.arrived(header(sequence), 100, sequence * 1000 + 50);
        }
        assert_eq!((flow.received, flow.bytes), (7, 700));
        assert_eq!((flow.reordered, flow.doubled), (1, 1));
        assert_eq!((flow.lost(), flow.loss()), (3, 0.3));
        assert_eq!(flow.jitter_ns, 0.0, "the transit was always the same");
        flow.arrived(header(9), 100, 9000 + 1650);
        assert_eq!(flow.jitter_ns, 100.0, "a sixteenth of 1600");
    }

    proptest! {
        #[test]
        fn any_order_with_holes_and_doubles_is_counted(
            mut numbers in prop::collection::vec(0_u64..500, 0..300),
        ) {
            let mut flow = Flow { sent: 500, ..Flow::default() };
            numbers.iter().for_each(|n| flow.arrived(header(*n), 1, 0));
            let all = numbers.len() as u64;
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(flow.received, numbers.len() as u64);
            prop_assert_eq!(flow.doubled, all - flow.received);
            prop_assert_eq!(flow.lost(), 500 - flow.received);
        }

        #[test]
        fn heads_and_reports_survive_the_wire(flow: u64, sequence: u64, sent_ns: u64) {
            let header = Header { flow, sequence, sent_ns };
            let mut wire = [0; HEADER + 3];
            header.write(&mut wire);
            prop_assert_eq!(Header::read(&wire), Some(header));
            prop_assert_eq!(Header::read(&wire[..HEADER - 1]), None);
            let seen = Flow { received: flow, bytes: sequence, reordered: 3, ..Flow::default() };
            let told = Flow { sent: 9, ..seen.clone() };
            prop_assert_eq!(Flow::decode(&seen.encode(), 9), Some(told));
            prop_assert_eq!(Flow::decode(&seen.encode()[..39], 9), None);
        }
    }
}
