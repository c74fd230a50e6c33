//! Watches a guest beside an answer that may be silent for good reason: a quiet log, a shell at
//! its prompt. Says so when the guest does not answer any more, and when it does again.
//!
//! Sends a byte in a while on a connection of its own and waits for its echo. An agent that has
//! no connection to spare, or does not know echoes, is not watched.

use std::time::{Duration, Instant};

use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics, Request};

use super::{Answers, Client, DiagError};

/// Between two signs of life.
const INTERVAL: Duration = Duration::from_secs(2);

/// An echo that is late by this is worth a word; an emulated guest under load is never so late.
const LATE: Duration = Duration::from_secs(3);

/// Calls `tell` with a sentence whenever the guest falls silent or speaks again. Never ends: to be
/// dropped when the answer beside it has ended.
pub async fn watch(client: &Client, mut tell: impl FnMut(&str)) -> std::convert::Infallible {
    let mut silent_since: Option<Instant> = None;
    // An answer that is over by then needs nobody to watch.
    tokio::time::sleep(INTERVAL).await;
    loop {
        let began = Instant::now();
        let broke = match client.ask(Request::Echo).await {
            Ok(mut answers) => beat(&mut answers, client, &mut silent_since, &mut tell).await,
            Err(DiagError::Link { .. } | DiagError::Ended { .. }) if silent_since.is_none() => {
                // It answers; that is all we want to know.
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
            Err(error) => error,
        };
        if silent_since.is_none() {
            silent_since = Some(began);
            tell(&format!("{} does not answer: {broke}", client.guest()));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn beat(
    answers: &mut Answers,
    client: &Client,
    silent_since: &mut Option<Instant>,
    tell: &mut impl FnMut(&str),
) -> DiagError {
    answers.set_silence(None);
    loop {
        let sent = Instant::now();
        answers.queue(&HostDiagnostics::Data, &[0]);
        let echo = async {
            loop {
                match answers.next().await? {
                    Some(answer) if matches!(answer.message, GuestDiagnostics::Echo { .. }) => {
                        return Ok(());
                    }
                    Some(_) => {}
                    None => return Err(answers.nonsense("an end without an echo")),
                }
            }
        };
        let mut echo = std::pin::pin!(echo);
        let result = match tokio::time::timeout(LATE, echo.as_mut()).await {
            Ok(result) => result,
            Err(_elapsed) => {
                if silent_since.is_none() {
                    *silent_since = Some(sent);
                    let guest = client.guest();
                    tell(&format!("{guest} has not answered for {} s", LATE.as_secs()));
                }
                echo.await
            }
        };
        if let Err(error) = result {
            return error;
        }
        if let Some(since) = silent_since.take() {
            let seconds = since.elapsed().as_secs();
            tell(&format!("{} answers again, after {seconds} s", client.guest()));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
