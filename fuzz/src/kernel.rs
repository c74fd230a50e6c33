//! Texts of the guest's own system that its agent reads, and in which any user of the guest has a
//! hand: by a process's name, a device's, or what is logged.
//!
//! The first byte chooses the parser.

use transom_agent::diag::{journal, kernel, text};

/// All parsers; none may fail, and none may swell.
pub fn texts(data: &[u8]) {
    let Some((&which, said)) = data.split_first() else { return };
    let words = String::from_utf8_lossy(said);
    match which % 5 {
        0 => {
            if let Some(record) = kernel::parse(said) {
                assert!(record.level < 8 && !record.text.contains('\n'));
            }
        }
        1 => {
            let (cut, rest) = said.split_at(said.len() / 2);
            let mut export = journal::Export::default();
            let mut entries = export.feed(cut);
            entries.extend(export.feed(rest));
            assert_eq!(entries, journal::Export::default().feed(said), "pieces are the same");
            let fields = || entries.iter().flat_map(|entry| &entry.fields);
            let bytes: usize = fields().map(|(name, value)| name.len() + value.len()).sum();
            // What is no UTF-8 in a name takes three bytes for one.
            assert!(bytes <= 3 * said.len());
        }
        2 => {
            if let Some(process) = text::process(&words) {
                assert!(process.name.len() <= words.len());
            }
        }
        3 => {
            assert!(text::input_devices(&words).count() <= words.len());
            assert!(text::user(&words, 0).is_none_or(|name| !name.contains([':', '\n'])));
            assert!(text::os_release(&words, "NAME").is_none_or(|name| !name.contains('\n')));
        }
        _ => {
            let _ = (text::memory(&words), text::cpu(&words), text::uptime(&words));
            assert!(text::cpu_model(&words).is_none_or(|name| !name.contains('\n')));
        }
    }
}

/// One or more for each parser, as real systems have them.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |which: u8, said: &[u8]| [&[which], said].concat();
    vec![
        seed(0, b"6,339,5140900,-;NET: Registered PF_VSOCK protocol family\n SUBSYSTEM=net\n"),
        seed(0, b"12,7,18446744073709551615,c;from user space"),
        seed(
            1,
            b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1700000000000000\nPRIORITY=4\n\
              MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n_COMM=x\n\nMESSAGE=plain\n\n",
        ),
        seed(2, b"42 (a) b (c)) S 1 42 40 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 9 100 33 18446744073709551615"),
        seed(3, b"I: Bus=0003 Vendor=0001\nN: Name=\"a \"b\"\nH: Handlers=kbd event0 \n\nN: Name=\"\"\n\n"),
        seed(3, b"root:x:0:0:root:/root:/bin/bash\nkiosk:x:990:990::/:/usr/sbin/nologin\n"),
        seed(3, b"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian\"\n"),
        seed(4, b"MemTotal:        1015312 kB\nMemFree: 1 kB\nMemAvailable:     801232 kB\n"),
        seed(4, b"cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2 3\nintr 5\n"),
        seed(4, b"processor\t: 0\nmodel name\t: UML\n"),
        seed(4, b"5140.90 10000.00\n"),
    ]
}
