//! The first of two futures that is ready; both are polled on the same task.

use std::future::Future;
use std::task::Poll;

/// Which of two futures was ready first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum First<A, B> {
    /// The first argument, which also wins if both are ready.
    Left(A),
    /// The second argument.
    Right(B),
}

/// Waits for either of two futures and drops the other.
pub async fn first<A: Future, B: Future>(a: A, b: B) -> First<A::Output, B::Output> {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = a.as_mut().poll(cx) {
            return Poll::Ready(First::Left(output));
        }
        b.as_mut().poll(cx).map(First::Right)
    })
    .await
}
