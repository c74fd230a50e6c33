//! A relay as a unit of systemd.
//!
//! Of this user where that is not root: machines, sockets and links are then the user's own. Of the
//! system for root, with a folder of its own for the secret behind links.

use std::path::{Path, PathBuf};

use super::{Command, Plan, Service, ServiceName, State, Step};

/// Whose systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The system's; a folder for its units.
    System(PathBuf),
    /// This user's; a folder for its units.
    User(PathBuf),
}

impl Scope {
    /// By who asks: root, or a user whose configuration lies in `config` (`$XDG_CONFIG_HOME`).
    pub fn of(root: bool, config: &Path) -> Self {
        match root {
            true => Self::System("/etc/systemd/system".into()),
            false => Self::User(config.join("systemd/user")),
        }
    }

    /// Of whoever runs this; nothing if the user has no folder for units.
    #[cfg(unix)]
    pub fn here() -> Option<Self> {
        use std::{env::var_os, fs, os::unix::fs::MetadataExt};
        // The effective user: the owner of what we are.
        let root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
        let config = var_os("XDG_CONFIG_HOME").filter(|folder| Path::new(folder).is_absolute());
        let home = || var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let config = config.map(PathBuf::from).or_else(home);
        if root && config.is_none() {
            return Some(Self::of(true, Path::new("/")));
        }
        config.map(|config| Self::of(root, &config))
    }

    fn folder(&self) -> &Path {
        match self {
            Self::System(folder) | Self::User(folder) => folder,
        }
    }

    /// The unit's file.
    pub fn unit(&self, name: &ServiceName) -> PathBuf {
        self.folder().join(format!("{name}.service"))
    }

    /// A call of systemctl.
    pub fn systemctl(&self) -> Command {
        let command = Command::new("systemctl");
        match self {
            Self::System(_) => command,
            Self::User(_) => command.arg("--user"),
        }
    }
}

/// Where its secret lies, for those that have it not in the user's own place.
pub fn state(name: &ServiceName) -> PathBuf {
    Path::new("/var/lib").join(name.to_string())
}

/// What makes it, or makes it anew, and starts it.
pub fn install(service: &Service, scope: &Scope) -> Plan {
    let unit = || format!("{}.service", service.name);
    Plan(vec![
        Step::Folder(scope.folder().into()),
        Step::File { path: scope.unit(&service.name), text: unit_text(service, scope) },
        Step::Run(scope.systemctl().arg("daemon-reload")),
        Step::Run(scope.systemctl().arg("enable").arg(unit())),
        Step::Run(scope.systemctl().arg("restart").arg(unit())),
    ])
}

/// What stops and removes it. The secret behind links stays.
pub fn uninstall(name: &ServiceName, scope: &Scope) -> Plan {
    Plan(vec![
        Step::Run(scope.systemctl().args(["disable", "--now"]).arg(format!("{name}.service"))),
        Step::Remove(scope.unit(name)),
        Step::Run(scope.systemctl().arg("daemon-reload")),
    ])
}

/// What tells [`read_state`] how it is.
pub fn ask(name: &ServiceName, scope: &Scope) -> Command {
    let what = ["show", "--property=LoadState,ActiveState,MainPID"];
    scope.systemctl().args(what).arg(format!("{name}.service"))
}

/// Reads what systemctl shows.
pub fn read_state(shown: &str) -> State {
    let value = |name: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once('='));
        lines.find(|(known, _)| *known == name).map_or("", |(_, value)| value.trim())
    };
    match (value("LoadState"), value("ActiveState"), value("MainPID").parse()) {
        ("loaded", "active", Ok(pid)) => State::Running(pid),
        ("loaded", state, _) => State::Stopped(state.into()),
        _ => State::Missing,
    }
}

fn unit_text(service: &Service, scope: &Scope) -> String {
    let Service { name, program, relay, folder } = service;
    let mut words = vec![quoted(&program.to_string_lossy()), "relay".into()];
    words.extend(relay.iter().map(|word| quoted(word)));
    let (unit, more, wanted) = match scope {
        Scope::System(_) => (
            // Relays may serve an address that comes with the network.
            "Wants=network-online.target\nAfter=network-online.target\n",
            format!("StateDirectory={name}\nStateDirectoryMode=0700\nProtectSystem=full\n"),
            "multi-user.target",
        ),
        Scope::User(_) => ("", String::new(), "default.target"),
    };
    format!(
        "# Made by `transom service install`, and removed by `transom service uninstall`.
[Unit]
Description=Transom relay ({name})
{unit}
[Service]
ExecStart={}
WorkingDirectory={}
Restart=on-failure
RestartSec=2
# A wrong command line gets no better; and another relay that took over stays.
RestartPreventExitStatus=2 3
NoNewPrivileges=yes
{more}
[Install]
WantedBy={wanted}
",
        words.join(" "),
        // One path and no words: quotes would be part of it.
        folder.to_string_lossy().replace('%', "%%"),
    )
}

/// One word of ExecStart= (systemd.service, "Command lines"): in quotes backslashes escape, `%` and
/// `$` expand even there.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::service::{Shell, tests::service};

    /// Of Linux alone, as are the paths in it.
    #[test]
    #[cfg(unix)]
    fn the_users_plan_is_pinned() {
        let scope = Scope::of(false, Path::new("/home/me/.config"));
        assert_eq!(
            install(&service(), &scope).print(Shell::Posix),
            r#"mkdir -p /home/me/.config/systemd/user
cat >/home/me/.config/systemd/user/transom-relay.service <<'END'
# Made by `transom service install`, and removed by `transom service uninstall`.
[Unit]
Description=Transom relay (transom-relay)

[Service]
ExecStart="/opt/my tools/transom" relay doom=vsock:3 --http 8889 --sdp "100%% \"it\".sdp"
WorkingDirectory=/home/me
Restart=on-failure
RestartSec=2
# A wrong command line gets no better; and another relay that took over stays.
RestartPreventExitStatus=2 3
NoNewPrivileges=yes

[Install]
WantedBy=default.target
END
systemctl \
    --user daemon-reload
systemctl \
    --user enable transom-relay.service
systemctl \
    --user restart transom-relay.service
"#
        );
        assert_eq!(
            uninstall(&service().name, &scope).print(Shell::Posix),
            "systemctl \\\n    --user disable \\\n    --now transom-relay.service\n\
             rm /home/me/.config/systemd/user/transom-relay.service\n\
             systemctl \\\n    --user daemon-reload\n"
        );
    }

    #[test]
    #[cfg(unix)]
    fn roots_is_the_systems() {
        let scope = Scope::of(true, Path::new("/root/.config"));
        let text = install(&service(), &scope).print(Shell::Posix);
        for part in [
            "cat >/etc/systemd/system/transom-relay.service ",
            "\nStateDirectory=transom-relay\n",
            "\nWantedBy=multi-user.target\n",
            "\nsystemctl enable transom-relay.service\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(state(&service().name), Path::new("/var/lib/transom-relay"));
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (word, expected) in [
            ("a=b:c/d", "a=b:c/d"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            (r#"\"$%"#, r#""\\\"$$%%""#),
            ("a\nExecStart=x", r#""a\nExecStart=x""#),
            ("ü", r#""ü""#),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn states_are_read() {
        let shown = |load, active, pid| {
            read_state(&format!("LoadState={load}\nActiveState={active}\nMainPID={pid}\n"))
        };
        assert_eq!(shown("loaded", "active", "7"), State::Running(7));
        assert_eq!(shown("loaded", "failed", "0"), State::Stopped("failed".into()));
        assert_eq!(shown("not-found", "inactive", "0"), State::Missing);
        assert_eq!(read_state(""), State::Missing);
    }
}
