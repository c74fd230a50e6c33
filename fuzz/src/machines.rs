//! What machines and their hosts say: lists of GPU libraries, PowerShell's answers, inf files.

use transom_protocol::gpu::{FOLDER, Manifest, is_place};
use transom_relay::{
    list,
    vm::{
        gpu::collect,
        host::{linux, windows},
        hyperv,
    },
};

/// All of them; no path leaves its folder.
pub fn machines(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(manifest) = Manifest::parse(&text) {
        assert_eq!(Manifest::parse(&manifest.to_string()).as_ref(), Ok(&manifest));
        for entry in &manifest.files {
            assert!(!entry.path.contains("..") && is_place(&format!("{FOLDER}/{}", entry.path)));
        }
    }
    let listed = hyperv::parse_list(&text);
    assert!(list::running(&listed).len() <= listed.len());
    let name = "doom".parse().expect("a name");
    assert!(!windows::checks(&text, Some(&name)).is_empty());
    let _ = linux::qemu_version(&text);
    assert!(collect::folders(&text).iter().all(|folder| !folder.contains('\\')));
    if let Some(version) = collect::inf_version(data) {
        assert!(!version.contains(char::is_whitespace));
    }
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let hash = "0a".repeat(32);
    let facts = r#"{"build":26100,"edition":"Windows 11 Pro","module":true,"service_state":"Running",
        "group":true,"gpus":["a","b"],"machines":{"id":"x","state":"Running","generation":2,
        "secure_boot":"On","disks":[{"path":"D:\\x","there":false}]}}"#;
    [
        format!("transom-gpu 1\ndriver nv.inf_amd64_1 32.0.15.1\nfile {hash} 7 lib/libd3d12.so\n"),
        "0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b\tRunning\tdoom\r\n".into(),
        facts.into(),
        "QEMU emulator version 7.2.17 (Debian)".into(),
        "C:\\Windows\\System32\\DriverStore\\FileRepository\\nv.inf_amd64_1\\nv.dll".into(),
        "[Version]\r\nDriverVer = 01/02/2026,32.0.15.1\r\n".into(),
    ]
    .map(String::into_bytes)
    .into()
}
