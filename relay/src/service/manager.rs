//! What the service manager of Windows wants of a program: to be told that it runs, and to be
//! obeyed when it is to stop.

use std::{
    ffi::OsString,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use windows_service::{
    Error, define_windows_service,
    service::{
        ServiceAccess, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState,
        ServiceStatus, ServiceType,
    },
    service_control_handler::{self, ServiceControlHandlerResult},
    service_dispatcher,
    service_manager::{ServiceManager, ServiceManagerAccess},
};

use super::{ServiceName, State};

/// ERROR_SERVICE_DOES_NOT_EXIST.
const MISSING: i32 = 1060;
/// ERROR_FAILED_SERVICE_CONTROLLER_CONNECT: nobody who manages services has started us.
const NOT_A_SERVICE: i32 = 1063;
/// How long a relay may take to say goodbye to its viewers.
const GOODBYE: Duration = Duration::from_secs(10);

/// Why it is not a service.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Started by somebody else.
    #[error(
        "this is for the service manager of Windows. `transom service install` makes a service"
    )]
    NotAService,
    /// What the manager says.
    #[error("the service manager says: {0}")]
    Manager(String),
}

impl From<Error> for ManagerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Winapi(e) if e.raw_os_error() == Some(NOT_A_SERVICE) => Self::NotAService,
            Error::Winapi(e) => Self::Manager(e.to_string()),
            other => Self::Manager(other.to_string()),
        }
    }
}

/// Whether a service is there, and runs.
///
/// # Errors
///
/// The manager does not answer.
pub fn state(name: &ServiceName) -> Result<State, ManagerError> {
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)?;
    let service = match manager.open_service(name.to_string(), ServiceAccess::QUERY_STATUS) {
        Err(Error::Winapi(e)) if e.raw_os_error() == Some(MISSING) => return Ok(State::Missing),
        service => service?,
    };
    let status = service.query_status()?;
    Ok(match (status.current_state, status.exit_code) {
        (ServiceState::Running, _) => State::Running(status.process_id.unwrap_or_default()),
        (ServiceState::Stopped, ServiceExitCode::ServiceSpecific(code)) => {
            State::Stopped(format!("ended with status {code}"))
        }
        (other, _) => State::Stopped(format!("{other:?}").to_lowercase()),
    })
}

/// What the service does, which yields its exit status.
type Body = Box<dyn FnOnce() -> u32 + Send>;

/// The manager calls back without a word about what for.
static BODY: Mutex<Option<(ServiceName, Body)>> = Mutex::new(None);
/// Somebody wants it to end.
static STOP: Notify = Notify::const_new();

/// Completes when the manager wants the service to end; never in what is none.
pub async fn stopped() {
    STOP.notified().await;
}

/// Runs `body` as the service of this name, until it ends; it is to do so when [`stopped`] completes.
///
/// # Errors
///
/// Nobody has started us as a service.
pub fn serve(
    name: ServiceName,
    body: impl FnOnce() -> u32 + Send + 'static,
) -> Result<(), ManagerError> {
    let system_name = name.to_string();
    *BODY.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, Box::new(body)));
    Ok(service_dispatcher::start(system_name, service_main)?)
}

define_windows_service!(service_main, run);

fn run(_: Vec<OsString>) {
    let Some((name, body)) = BODY.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    if let Err(e) = report_and_run(&name, body) {
        log::error!("{}", ManagerError::from(e));
    }
}

fn report_and_run(name: &ServiceName, body: Body) -> Result<(), Error> {
    let ask = ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN;
    let status = |current_state, exit_code| ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state,
        controls_accepted: match current_state {
            ServiceState::Running => ask,
            _ => ServiceControlAccept::empty(),
        },
        exit_code,
        checkpoint: 0,
        wait_hint: GOODBYE,
        process_id: None,
    };
    let fine = ServiceExitCode::Win32(0);
    let manager = service_control_handler::register(name.to_string(), |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown => {
            STOP.notify_one();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    })?;
    manager.set_service_status(status(ServiceState::Running, fine))?;
    let code = body();
    let code = if code == 0 { fine } else { ServiceExitCode::ServiceSpecific(code) };
    manager.set_service_status(status(ServiceState::Stopped, code))
}
