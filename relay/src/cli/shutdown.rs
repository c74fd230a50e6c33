//! The end, as the user or the system asks for it.

use anyhow::Context;

/// Completes when the user or the system wants us to end.
#[cfg(unix)]
pub fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).context("cannot wait for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Completes when the user or the system wants us to end. After a closed window or a sign-out
/// Windows leaves a program some seconds; tokio keeps its handler waiting, so that they are ours.
#[cfg(windows)]
pub fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::windows;
    let deaf = "cannot wait for console events";
    let mut interrupt = windows::ctrl_c().context(deaf)?;
    let mut stop = windows::ctrl_break().context(deaf)?;
    let mut close = windows::ctrl_close().context(deaf)?;
    let mut sign_out = windows::ctrl_logoff().context(deaf)?;
    let mut shutdown = windows::ctrl_shutdown().context(deaf)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = stop.recv() => {}
            _ = close.recv() => {}
            _ = sign_out.recv() => {}
            _ = shutdown.recv() => {}
            () = transom_relay::service::manager::stopped() => {}
        }
    })
}
