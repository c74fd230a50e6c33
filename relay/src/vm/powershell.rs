//! Runs scripts in Windows PowerShell, which every Windows has.

use std::{env, fs, process};

use super::hyperv::{self, Listed};

/// The machines of this host.
///
/// # Errors
///
/// What the script said, in words for the user.
pub fn list() -> Result<Vec<Listed>, String> {
    run(&hyperv::list()).map(|output| hyperv::parse_list(&output))
}

/// Printed behind everything: without it, the script was not run to its end, whatever the status.
/// Wine's PowerShell runs nothing at all and says that all went well.
const END: &str = "# end";

/// Runs a script and yields what it printed.
///
/// # Errors
///
/// What it said on stderr, or why it could not be run.
pub fn run(script: &str) -> Result<String, String> {
    let id = getrandom::u64().map_err(|e| format!("the system gives no random numbers: {e}"))?;
    let file = env::temp_dir().join(format!("transom-{id:016x}.ps1"));
    // Windows PowerShell takes a file without this mark for one in the system's old code page.
    fs::write(&file, format!("\u{feff}{script}\n'{END}'\n"))
        .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    let output = process::Command::new("powershell.exe")
        .args(["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File"])
        .arg(&file)
        .output();
    let _ = fs::remove_file(&file);
    let output = output.map_err(|e| format!("cannot run powershell.exe: {e}"))?;
    if output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        let said = said.trim_start_matches('\u{feff}').trim_end().strip_suffix(END);
        return said.map(str::to_owned).ok_or_else(|| {
            "PowerShell did not run the script. Try one in a terminal: powershell.exe -Command Get-VM"
                .into()
        });
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
