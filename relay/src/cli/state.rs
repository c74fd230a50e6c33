//! Where the secret behind links lies: the same option for all that make links or check them.

use std::path::PathBuf;

use clap::Args;
use transom_relay::access::store::{Store, StoreError};

/// The folder of the secret.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Keep the secret behind links in this folder; a service has one of its own. Without it:
    /// %LOCALAPPDATA%\transom on Windows, ~/.local/state/transom elsewhere.
    #[arg(long, value_name = "DIR", env = "TRANSOM_STATE")]
    state: Option<PathBuf>,
}

impl StateArgs {
    /// Opens it, and makes what is missing.
    pub fn open(&self) -> Result<Store, StoreError> {
        match &self.state {
            Some(folder) => Store::open(folder),
            None => Store::open_default(),
        }
    }
}
