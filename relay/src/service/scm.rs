//! A relay as a service of Windows, by the tools that every Windows has.
//!
//! It runs as an account of its own, `NT SERVICE\transom-NAME`, which Windows makes with the
//! service and which has no rights but those of *Hyper-V Administrators*: what serves browsers has no
//! business with the system's. Its folder is closed to others than the administrators of the system
//! and of Hyper-V, for the secret behind links lies there.

use std::path::{Path, PathBuf};

use super::{Command, Plan, Service, ServiceName, Step};
use crate::vm::quote;

/// The tool for services.
pub const SC: &str = "sc.exe";

/// Groups by their number: their names are of the system's language.
const SYSTEM: &str = "S-1-5-18";
const ADMINISTRATORS: &str = "S-1-5-32-544";
const HYPERV_ADMINISTRATORS: &str = "S-1-5-32-578";

/// Its folder: the secret behind links, and what it logs.
pub fn state(program_data: &Path, name: &ServiceName) -> PathBuf {
    program_data.join("transom").join(&name.0)
}

/// What makes it and starts it. The service comes first: where that is not allowed, nothing is left.
pub fn install(service: &Service, state: &Path) -> Plan {
    let name = service.name.to_string();
    let account = format!("NT SERVICE\\{name}");
    let mut create = Command::new(SC)
        .arg("create")
        .arg(&name)
        .args(["binPath=", &command_line(service, state), "start=", "auto", "obj=", &account])
        .args(["DisplayName=", &format!("Transom relay ({})", service.name.0)]);
    if service.relay.iter().any(|word| word.contains("hyperv:")) {
        // Hyper-V's own, which knows the machines.
        create = create.args(["depend=", "vmms"]);
    }
    let grants = [(SYSTEM, "F"), (ADMINISTRATORS, "F"), (HYPERV_ADMINISTRATORS, "M")];
    let mut close = Command::new("icacls.exe").arg(state.to_string_lossy()).arg("/inheritance:r");
    for (group, right) in grants {
        close = close.arg("/grant:r").arg(format!("*{group}:(OI)(CI){right}"));
    }
    let describe = "Brings screens of virtual machines to viewers. transom service --help";
    Plan(vec![
        Step::Run(create),
        Step::Folder(state.into()),
        Step::Run(close),
        Step::Run(powershell(&join(&name))),
        Step::Run(Command::new(SC).args(["description", &name, describe])),
        // After a crash; a relay that ends by itself has said why, and would say so again.
        Step::Run(
            Command::new(SC)
                .args(["failure", &name, "reset=", "86400"])
                .args(["actions=", "restart/2000/restart/10000/restart/60000"]),
        ),
        Step::Run(Command::new(SC).args(["start", &name])),
    ])
}

/// What stops and removes it. Its folder stays.
pub fn uninstall(name: &ServiceName) -> Plan {
    let name = name.to_string();
    Plan(vec![
        Step::Try(Command::new(SC).args(["stop", &name])),
        // Windows forgets the account with the service; its membership would stay.
        Step::Try(powershell(&leave(&name))),
        Step::Run(Command::new(SC).args(["delete", &name])),
    ])
}

/// The script that makes the service's account a member of Hyper-V Administrators. The account is
/// known by the service's name: a service that was removed by other means may have left it there.
pub fn join(name: &str) -> String {
    let group = member("Add", name);
    format!(
        "try {{ {group} -ErrorAction Stop }} catch [Microsoft.PowerShell.Commands.MemberExistsException] {{ }}"
    )
}

/// The script that ends that.
pub fn leave(name: &str) -> String {
    member("Remove", name)
}

fn member(verb: &str, name: &str) -> String {
    let account = quote::powershell(&format!("NT SERVICE\\{name}"));
    format!("{verb}-LocalGroupMember -SID {HYPERV_ADMINISTRATORS} -Member {account}")
}

fn powershell(script: &str) -> Command {
    Command::new("powershell.exe").args(["-NoProfile", "-NonInteractive", "-Command", script])
}

/// What Windows runs.
fn command_line(service: &Service, state: &Path) -> String {
    let Service { name, program, relay, folder } = service;
    let (program, folder, state) =
        (program.to_string_lossy(), folder.to_string_lossy(), state.to_string_lossy());
    let fixed =
        [&*program, "service", "run", &name.0, "--folder", &folder, "--state", &state, "--"];
    let words = fixed.into_iter().chain(relay.iter().map(String::as_str));
    words.map(quote::windows).collect::<Vec<_>>().join(" ")
}

/// What an exit status of `sc.exe` means, which is Windows' own number for it.
pub fn meaning(status: i32) -> Option<&'static str> {
    Some(match status {
        5 => "access denied. Run this in an elevated terminal",
        1053 => {
            "the service did not start in time. Its log, transom.log in its folder, may say why"
        }
        1056 => "the service runs already",
        1060 => "there is no service of this name",
        1068 | 1075 => {
            "a service that it needs does not run: is Hyper-V installed? transom doctor --host"
        }
        1069 => "its account may not log on as a service: a policy forbids it",
        1072 => "the service is being removed: close what shows it (Services, Task Manager)",
        1073 => "there is a service of this name. Remove it first: transom service uninstall",
        _ => return None,
    })
}

/// Whether the service's account can run a program that lies there: what is in a user's own folders is
/// closed to others.
pub fn is_private(program: &Path, users: Option<&Path>) -> bool {
    users.is_some_and(|users| program.starts_with(users))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Shell;

    fn service() -> Service {
        Service {
            name: "relay".parse().expect("a name"),
            program: r"C:\Program Files\Transom\transom.exe".into(),
            relay: ["hyperv:Büro 2", "--http", "8889"].map(String::from).to_vec(),
            folder: r"C:\".into(),
        }
    }

    #[test]
    fn the_plan_is_pinned() {
        let state = Path::new(r"C:\ProgramData\transom\relay");
        assert_eq!(
            install(&service(), state).print(Shell::Windows),
            r#"sc.exe create transom-relay binPath= "\"C:\Program Files\Transom\transom.exe\" service run relay --folder C:\ --state C:\ProgramData\transom\relay -- \"hyperv:Büro 2\" --http 8889" start= auto obj= "NT SERVICE\transom-relay" DisplayName= "Transom relay (relay)" depend= vmms
mkdir C:\ProgramData\transom\relay
icacls.exe C:\ProgramData\transom\relay /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" /grant:r "*S-1-5-32-544:(OI)(CI)F" /grant:r "*S-1-5-32-578:(OI)(CI)M"
powershell.exe -NoProfile -NonInteractive -Command "try { Add-LocalGroupMember -SID S-1-5-32-578 -Member 'NT SERVICE\transom-relay' -ErrorAction Stop } catch [Microsoft.PowerShell.Commands.MemberExistsException] { }"
sc.exe description transom-relay "Brings screens of virtual machines to viewers. transom service --help"
sc.exe failure transom-relay reset= 86400 actions= restart/2000/restart/10000/restart/60000
sc.exe start transom-relay
"#
        );
        assert_eq!(
            uninstall(&service().name).print(Shell::Windows),
            r#"sc.exe stop transom-relay
powershell.exe -NoProfile -NonInteractive -Command "Remove-LocalGroupMember -SID S-1-5-32-578 -Member 'NT SERVICE\transom-relay'"
sc.exe delete transom-relay
"#
        );
    }

    #[test]
    fn what_is_not_of_hyperv_does_not_wait_for_it() {
        let tunnel = Service { relay: vec!["tcp:127.0.0.1:7".into()], ..service() };
        let text = install(&tunnel, Path::new(r"C:\x")).print(Shell::Windows);
        assert!(!text.contains("vmms"), "{text}");
    }

    #[test]
    fn the_scripts_are_powershell() {
        let mut parser = tree_sitter::Parser::new();
        parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("versions fit");
        for script in [join("transom-relay"), leave("transom-relay")] {
            let tree = parser.parse(&script, None).expect("no timeout was set");
            assert!(!tree.root_node().has_error(), "{script}");
        }
    }

    #[test]
    fn statuses_have_a_remedy() {
        assert!(meaning(5).is_some_and(|said| said.contains("elevated")));
        assert_eq!(meaning(87), None);
    }
}
