use super::*;

/// As ConvertTo-Json prints it: a hash table's order is any, and a list of one is the one.
const GOOD: &str = r#"{"build":26100,"edition":"Microsoft Windows 11 Pro","hypervisor":true,"module":true,
"service_state":"Running","elevated":false,"group":true,"gpus":"\\\\?\\PCI#VEN_10DE&DEV_2684","wsl":true,"service":false,
"machines":{"id":"0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b","state":"Running","generation":2,"secure_boot":"On",
"template":"MicrosoftUEFICertificateAuthority","checkpoints":"Disabled","adapters":0,"resolution_type":"Single",
"width":1920,"height":1080,"gpus":0,"high_mmio":536870912,"disks":{"path":"D:\\Büro.vhdx","there":true}}}"#;

fn name() -> Name {
    "Büro".parse().expect("a name")
}

fn verdicts(said: &str) -> Vec<(String, Verdict)> {
    let checks = checks(said, Some(&name()));
    checks.iter().map(|check| (check.name.to_string(), check.verdict)).collect()
}

fn bad(said: &str) -> Vec<String> {
    let worse = |(name, verdict): (String, Verdict)| (verdict > Verdict::Skip).then_some(name);
    verdicts(said).into_iter().filter_map(worse).collect()
}

#[test]
fn a_host_in_order_passes() {
    assert_eq!(bad(GOOD), [""; 0]);
    assert_eq!(bad(&format!("\u{feff}{GOOD}\r\n")), [""; 0]);
    assert_eq!(checks(GOOD, None).len(), 6);
}

#[test]
fn what_is_wrong_is_named_with_a_remedy() {
    for (from, to, name) in [
        ("11 Pro", "11 Home", "windows"),
        ("26100", "17763", "windows"),
        ("\"hypervisor\":true", "\"hypervisor\":false", "hyper-v"),
        ("\"service_state\":\"Running\"", "\"service_state\":\"Stopped\"", "hyper-v"),
        ("\"service_state\":\"Running\"", "\"service_stateError\":\"none\"", "hyper-v"),
        ("\"group\":true", "\"group\":false", "rights"),
        ("\"state\":\"Running\"", "\"state\":\"Off\"", "machine"),
        ("\"generation\":2", "\"generation\":1", "machine-generation"),
        ("MicrosoftUEFICertificateAuthority", "MicrosoftWindows", "machine-secure-boot"),
        ("\"gpus\":0,\"high_mmio\"", "\"gpus\":1,\"high_mmio\"", "machine-secure-boot"),
        ("\"Disabled\"", "\"Standard\"", "machine-checkpoints"),
        ("\"Single\"", "\"Default\"", "machine-resolution"),
        ("\"there\":true", "\"there\":false", "machine-disk"),
        ("\"machines\":{", "\"machines\":[],\"was\":{", "machine"),
        ("\"machines\":{", "\"machinesError\":\"Access denied\",\"was\":{", "machine"),
    ] {
        let said = GOOD.replace(from, to);
        assert_ne!(said, GOOD, "{from}");
        assert!(bad(&said).contains(&name.to_owned()), "{from} → {to}: {:?}", bad(&said));
        for check in checks(&said, Some(&super::tests::name())) {
            let blemish = check.verdict > Verdict::Skip;
            assert_eq!(
                blemish,
                !check.remedy.as_str().is_empty() && check.verdict != Verdict::Skip
            );
        }
    }
    let gpu = GOOD.replace("\"gpus\":0,", "\"gpus\":1,").replace("\"On\"", "\"Off\"");
    assert_eq!(bad(&gpu), ["machine-gpu"]);
    assert_eq!(bad(&gpu.replace("536870912", "34359738368")), [""; 0]);
}

#[test]
fn two_of_a_name_and_answers_that_do_not_read() {
    let (head, rest) = GOOD.split_once("\"machines\":").expect("a machine");
    let vm = rest.strip_suffix('}').expect("the end");
    let said = format!("{head}\"machines\":[{vm},{vm}]}}");
    assert!(bad(&said).contains(&"machine".into()));
    for said in ["", "{", "null", "[]", "{\"build\":\"x\"}", "Get-VM : denied", "{\"build\":-1}"] {
        assert_eq!(bad(said), ["powershell"], "{said}");
    }
    // Nothing could be asked: everything that matters fails, and nothing panics.
    assert_eq!(bad("{}"), ["windows", "hyper-v", "rights", "machine"]);
}
