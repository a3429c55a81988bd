//! SIGTERM and SIGINT become a [`Shutdown`]; a second one, or the deadline, ends the process at once.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::shutdown::Shutdown;

/// How long a process that starts may take to notice a request by itself: what it waits in may not be interruptible.
const START_GRACE: Duration = Duration::from_secs(1);

/// Watches on a thread of its own, for the rest of the process's life.
///
/// The deadline runs from the request, wherever that came from. Errors: the handlers cannot be installed.
pub(crate) fn watch(shutdown: Shutdown) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the signal handler")?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?)
    };
    let watch = move || {
        runtime.block_on(async {
            tokio::select! {
                name = either(&mut terminate, &mut interrupt) => {
                    tracing::info!(signal = name, deadline = ?shutdown.deadline(), "ending: once more to end at once");
                    shutdown.request();
                }
                () = shutdown.wait() => {}
            }
            let while_starting = async {
                tokio::time::sleep(START_GRACE).await;
                if !shutdown.is_starting() {
                    std::future::pending::<()>().await;
                }
            };
            let code = tokio::select! {
                name = either(&mut terminate, &mut interrupt) => {
                    tracing::error!(signal = name, "ended at once by a second signal");
                    1
                }
                () = while_starting => {
                    tracing::info!("ended while starting: there was nothing to bring to an end");
                    0
                }
                () = tokio::time::sleep(shutdown.deadline()) => {
                    tracing::error!(deadline = ?shutdown.deadline(), "not ended within the deadline: ended by force");
                    1
                }
            };
            std::process::exit(code);
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).context("starting the signal thread")?;
    Ok(())
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("installing a signal handler")
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
