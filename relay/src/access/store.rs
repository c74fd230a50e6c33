//! Where the secret behind all links lives: a folder of the user's that nobody else can read.
//!
//! ```text
//!   key       32 random bytes; whoever reads it can make links
//!   revoked   a line for each link taken back: id, expiry
//!   relay     JSON: the address of the relay started last, and its guests, for `transom link`
//!   tls.pem   the certificate for HTTPS beyond loopback, and its key
//! ```
//!
//! In: a folder. Out: the key, and what was revoked, as the files say now: the relay notices at
//! its next look what `transom link` wrote. What this refuses to do: use a key that others may
//! read, or write a file in place.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Grant, Key, Role, TokenError, TokenId};

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No idea where it might be.
    #[error(
        "no folder for the secret behind links: name one by --state, or set {}",
        if cfg!(windows) { "LOCALAPPDATA" } else { "HOME" }
    )]
    Nowhere,
    /// A file or folder.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        why: io::Error,
    },
    /// Not ours alone.
    #[error("{} can be read by others, who could make links with it: chmod 600 it, and make a new key by `transom link --revoke-all`", .0.display())]
    Exposed(PathBuf),
    /// The same of another secret.
    #[error("{} can be read by others, who could pose as this relay with it: remove it, and a new one is made", .0.display())]
    Readable(PathBuf),
    /// Not a key.
    #[error("{} is no key (32 bytes): remove it and a new one is made", .0.display())]
    NoKey(PathBuf),
    /// The system has none.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The relay that runs, for who makes links to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Where its pages are.
    pub url: String,
    /// The names of its guests.
    pub guests: Vec<String>,
    /// Its process.
    pub pid: u32,
    /// The fingerprint of a certificate that nobody else vouches for.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    cache: Mutex<Cache>,
}

/// What was read last, and of which state of the files.
#[derive(Debug, Default)]
struct Cache {
    key: Option<(Stamp, Key)>,
    revoked: Option<(Stamp, Vec<TokenId>)>,
}

/// Tells one state of a file from another: files are replaced, never written in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: metadata.ino(),
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether others may read a file; on Windows the folder says so, which is the user's.
fn is_exposed(path: &Path) -> Result<bool, StoreError> {
    let metadata = fs::metadata(path);
    let metadata = metadata.map_err(|why| StoreError::File { path: path.into(), why })?;
    #[cfg(unix)]
    let exposed = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0;
    #[cfg(not(unix))]
    let exposed = !metadata.is_file();
    Ok(exposed)
}

impl Store {
    /// Opens the folder that the environment says, and makes it and a key if there is none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open_default() -> Result<Self, StoreError> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self::open(&default_folder(cfg!(windows), from).ok_or(StoreError::Nowhere)?)
    }

    /// Opens a folder, and makes it and a key if there is none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).map_err(|why| StoreError::File { path: dir.into(), why })?;
        let store = Self { dir: dir.into(), cache: Mutex::default() };
        if !store.path("key").exists() {
            store.renew(false)?;
        }
        store.key()?;
        Ok(store)
    }

    /// Where a file of the folder is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a new key, with which all links of the old one end.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn revoke_all(&self) -> Result<(), StoreError> {
        self.renew(true)?;
        self.write("revoked", b"", true)
    }

    fn renew(&self, replace: bool) -> Result<(), StoreError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(StoreError::Random)?;
        self.write("key", &key, replace)
    }

    /// Puts a whole file in place, readable by us alone. Not `replace`: whoever was first wins.
    fn write(&self, name: &str, bytes: &[u8], replace: bool) -> Result<(), StoreError> {
        let (path, new) = (self.path(name), self.path(&format!("{name}.{}", std::process::id())));
        let written = (|| {
            let _ = fs::remove_file(&new);
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            if replace {
                return fs::rename(&new, &path);
            }
            let linked = fs::hard_link(&new, &path);
            fs::remove_file(&new)?;
            match linked {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            }
        })();
        written.map_err(|why| StoreError::File { path, why })
    }

    /// Keeps another secret for good, and yields what is kept: whoever was first wins.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.write(name, bytes, false)?;
        Ok(self.read(name)?.1)
    }

    /// A secret that was kept.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn secret(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        if is_exposed(&path)? {
            return Err(StoreError::Readable(path));
        }
        Ok(Some(self.read(name)?.1))
    }

    fn read(&self, name: &str) -> Result<(Stamp, Vec<u8>), StoreError> {
        let path = self.path(name);
        let read = || {
            let file = fs::File::open(&path)?;
            let metadata = file.metadata()?;
            let mut bytes = Vec::new();
            file.take(MAX_FILE).read_to_end(&mut bytes)?;
            Ok((Stamp::of(&metadata), bytes))
        };
        read().map_err(|why| StoreError::File { path: path.clone(), why })
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        fs::metadata(self.path(name)).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// The key as it is now.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn key(&self) -> Result<Key, StoreError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.stamp("key");
        if let Some((known, key)) = &cache.key
            && Some(*known) == stamp
        {
            return Ok(key.clone());
        }
        let path = self.path("key");
        if is_exposed(&path)? {
            return Err(StoreError::Exposed(path));
        }
        let (stamp, bytes) = self.read("key")?;
        let key = Key::new(bytes.try_into().map_err(|_| StoreError::NoKey(path))?);
        cache.key = Some((stamp, key.clone()));
        Ok(key)
    }

    fn revoked(&self) -> Vec<TokenId> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.stamp("revoked");
        if stamp.is_none() {
            return Vec::new();
        }
        if let Some((known, ids)) = &cache.revoked
            && Some(*known) == stamp
        {
            return ids.clone();
        }
        match self.read("revoked") {
            Ok((stamp, bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let ids: Vec<_> =
                    text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
                cache.revoked = Some((stamp, ids.clone()));
                ids
            }
            Err(e) => {
                // Rather the list of before than none.
                log::warn!("the list of revoked links cannot be read: {e}");
                cache.revoked.as_ref().map(|(_, ids)| ids.clone()).unwrap_or_default()
            }
        }
    }

    /// A link's token, and what it grants.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn grant(
        &self,
        role: Role,
        guest: Option<&str>,
        lifetime: Duration,
    ) -> Result<(String, Grant), StoreError> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(StoreError::Random)?;
        let grant = Grant {
            id: TokenId(id),
            role,
            guest: guest.map(str::to_owned),
            expires: now().saturating_add(lifetime.as_secs()),
        };
        Ok((self.key()?.seal(&grant), grant))
    }

    /// What a token grants with this guest.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]. A key that cannot be read opens nothing.
    pub fn check(&self, token: &str, guest: &str) -> Result<Grant, TokenError> {
        let key = self.key().map_err(|e| {
            log::error!("{e}");
            TokenError::Forged
        })?;
        let grant = key.open(token, now())?;
        self.still(&grant)?;
        match &grant.guest {
            Some(other) if other != guest => Err(TokenError::OtherGuest),
            _ => Ok(grant),
        }
    }

    /// What a token grants whose bearer shows its name and proves its password
    /// ([`super::name_and_password`]).
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn check_proof(
        &self,
        name: &str,
        guest: &str,
        proves: &dyn Fn(&str) -> bool,
    ) -> Result<Grant, TokenError> {
        let key = self.key().map_err(|e| {
            log::error!("{e}");
            TokenError::Forged
        })?;
        match key.password(name) {
            Some((password, token)) if proves(&password) => self.check(&token, guest),
            _ => Err(TokenError::Forged),
        }
    }

    /// Whether a grant that was good still is.
    ///
    /// # Errors
    ///
    /// [`TokenError::Expired`] or [`TokenError::Revoked`].
    pub fn still(&self, grant: &Grant) -> Result<(), TokenError> {
        if grant.expires <= now() {
            return Err(TokenError::Expired);
        }
        if self.revoked().contains(&grant.id) { Err(TokenError::Revoked) } else { Ok(()) }
    }

    /// Takes a link back. Entries that expired by themselves are dropped on the way.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn revoke(&self, id: TokenId, expires: Option<u64>) -> Result<(), StoreError> {
        let old = match self.read("revoked") {
            Ok((_, bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(StoreError::File { why, .. }) if why.kind() == io::ErrorKind::NotFound => {
                String::new()
            }
            Err(e) => return Err(e),
        };
        let live = |line: &&str| {
            line.split(' ').nth(1).and_then(|at| at.parse().ok()).is_none_or(|at: u64| at > now())
        };
        let mut lines: Vec<_> = old.lines().filter(live).map(str::to_owned).collect();
        lines.push(format!("{id} {}", expires.unwrap_or(u64::MAX)));
        self.write("revoked", (lines.join("\n") + "\n").as_bytes(), true)
    }

    /// Notes the relay that runs, for [`Store::serving`].
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn note_serving(&self, serving: &Serving) -> Result<(), StoreError> {
        let json = serde_json::to_vec(serving).unwrap_or_default();
        self.write("relay", &json, true)
    }

    /// The relay that was started last, if it told.
    pub fn serving(&self) -> Option<Serving> {
        let (_, bytes) = self.read("relay").ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Where the platform keeps what is one user's, on one machine. On Windows shells of other systems
/// set HOME, to folders that come and go; LOCALAPPDATA alone is of Windows' own making there.
fn default_folder(windows: bool, from: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if windows {
        return from("LOCALAPPDATA")
            .or_else(|| from("USERPROFILE").map(|home| home.join("AppData").join("Local")))
            .map(|local| local.join("transom"));
    }
    // systemd sets the first, for units with StateDirectory=.
    from("STATE_DIRECTORY")
        .or_else(|| from("XDG_STATE_HOME").map(|dir| dir.join("transom")))
        .or_else(|| from("HOME").map(|home| home.join(".local/state/transom")))
}

#[cfg(test)]
mod place_tests {
    use super::*;

    #[test]
    fn each_platform_has_its_own_place() {
        let place = |windows, set: &[(&str, &str)]| {
            let set = set.to_vec();
            let value = move |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, v)| PathBuf::from(v))
            };
            default_folder(windows, value)
        };
        let home = ("HOME", "home");
        let here = |parts: &[&str]| Some(parts.iter().collect::<PathBuf>());
        assert_eq!(place(true, &[home, ("LOCALAPPDATA", "local")]), here(&["local", "transom"]));
        assert_eq!(
            place(true, &[home, ("USERPROFILE", "me"), ("XDG_STATE_HOME", "x")]),
            here(&["me", "AppData", "Local", "transom"])
        );
        assert_eq!(place(true, &[home]), None);
        assert_eq!(place(false, &[home]), here(&["home", ".local/state/transom"]));
        assert_eq!(place(false, &[home, ("XDG_STATE_HOME", "x")]), here(&["x", "transom"]));
        assert_eq!(place(false, &[home, ("STATE_DIRECTORY", "s")]), here(&["s"]));
        assert_eq!(place(false, &[("LOCALAPPDATA", "local")]), None);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::access::name_and_password;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("transom-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(dir)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_key_is_made_once_and_for_us_alone() {
        let folder = Folder::new("key");
        let store = Store::open(&folder.0).expect("a store");
        let mode = |name| fs::metadata(folder.0.join(name)).expect("it").permissions().mode();
        assert_eq!((mode("") & 0o777, mode("key") & 0o777), (0o700, 0o600));
        let (token, grant) = store.grant(Role::View, Some("doom"), HOUR).expect("a grant");
        let again = Store::open(&folder.0).expect("a store");
        assert_eq!(again.check(&token, "doom"), Ok(grant));
        fs::set_permissions(folder.0.join("key"), fs::Permissions::from_mode(0o640)).expect("it");
        assert!(matches!(Store::open(&folder.0), Err(StoreError::Exposed(_))));
    }

    #[test]
    fn a_link_ends_for_other_guests_when_revoked_and_with_its_key() {
        let folder = Folder::new("revoke");
        let (store, maker) = (Store::open(&folder.0), Store::open(&folder.0));
        let (store, maker) = (store.expect("a store"), maker.expect("a store"));
        let (token, grant) = maker.grant(Role::Control, Some("doom"), HOUR).expect("a grant");
        let (other, _) = maker.grant(Role::Control, None, HOUR).expect("a grant");
        assert_eq!(store.check(&token, "doom").as_ref(), Ok(&grant));
        assert_eq!(store.check(&token, "desk"), Err(TokenError::OtherGuest));
        assert!(store.check(&other, "desk").is_ok());
        maker.revoke(grant.id, Some(grant.expires)).expect("revoked");
        assert_eq!(store.check(&token, "doom"), Err(TokenError::Revoked));
        assert_eq!(store.still(&grant), Err(TokenError::Revoked));
        assert!(store.check(&other, "desk").is_ok(), "others go on");
        maker.revoke_all().expect("revoked");
        assert_eq!(store.check(&token, "doom"), Err(TokenError::Forged));
        assert_eq!(store.check(&other, "desk"), Err(TokenError::Forged));
    }

    #[test]
    fn a_password_is_proven_against_its_name() {
        let folder = Folder::new("proof");
        let store = Store::open(&folder.0).expect("a store");
        let (token, grant) = store.grant(Role::View, Some("doom"), HOUR).expect("a grant");
        let (name, password) = name_and_password(&token).expect("a token has both");
        assert!(!name.contains(&password) && format!("{name}{password}").is_ascii());
        let check = |name: &str, guest: &str, said: &str| {
            store.check_proof(name, guest, &|password| password == said)
        };
        assert_eq!(check(&name, "doom", &password).as_ref(), Ok(&grant));
        assert_eq!(check(&name, "desk", &password), Err(TokenError::OtherGuest));
        assert_eq!(check(&name, "doom", "x"), Err(TokenError::Forged));
        for name in ["", "x", "%", &"A".repeat(500), &token] {
            assert_eq!(check(name, "doom", &password), Err(TokenError::Forged), "{name}");
        }
        // Whatever is proven: a name that nobody sealed grants nothing.
        assert_eq!(store.check_proof("AAAA", "doom", &|_| true), Err(TokenError::Forged));
        store.revoke(grant.id, None).expect("revoked");
        assert_eq!(check(&name, "doom", &password), Err(TokenError::Revoked));
    }

    #[test]
    fn a_broken_key_is_named() {
        let folder = Folder::new("broken");
        drop(Store::open(&folder.0).expect("a store"));
        fs::write(folder.0.join("key"), b"short").expect("written");
        assert!(matches!(Store::open(&folder.0), Err(StoreError::NoKey(_))));
    }

    #[test]
    fn links_learn_where_the_relay_is() {
        let folder = Folder::new("serving");
        let store = Store::open(&folder.0).expect("a store");
        assert_eq!(store.serving(), None);
        let serving = Serving {
            url: "http://127.0.0.1:1".into(),
            guests: vec!["doom".into()],
            pid: 3,
            fingerprint: None,
        };
        store.note_serving(&serving).expect("noted");
        assert_eq!(store.serving(), Some(serving));
    }
}
