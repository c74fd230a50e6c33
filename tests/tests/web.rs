//! The page in a real browser, and WHEP players that nobody here wrote.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transom_tests::{
    Browser, EventLog, Guest, Process, Test, Uml, Web, free_udp_port, machine_test, other_encoder,
    project_dir, release_dir,
};

const LIMIT: Duration = Duration::from_secs(240);
/// What the guest calls a gamepad of the page.
const PAD: &str = "Microsoft X-Box 360 pad";
/// What a picture has to reach after WebRTC, colours and all.
const TRUE: f64 = 30.0;
/// What small text in loud colours reaches in 4:4:4, and what tells it from another text in 4:2:0.
const CRISP: f64 = 32.0;
const BLURRED: f64 = 14.0;

/// Whether an event was told behind a mark.
fn told(log: &EventLog, start: usize, event: &str) -> bool {
    log.lines()[start..].iter().any(|line| line.contains(event))
}

#[test]
fn a_page_shows_what_the_guest_shows_and_says_what_goes_on() {
    machine_test("a page shows what the guest shows", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;
        let web = Web::start(test, &guest, &[])?;
        let mut page = Browser::start(test)?;
        page.open(web.base())?;
        page.wait_text("#badge", "watching")?;
        let wanted = card.expected()?;
        println!("still: {:.1} dB", page.wait_like(&wanted, TRUE)?);
        // A newcomer to a screen at rest.
        let mut second = Browser::start(test)?;
        second.open(&web.link_as("view")?)?;
        second.wait_like(&wanted, TRUE)?;
        ensure!(web.guests()?[0]["viewers"] == 2, "{:?}", web.guests()?);
        card.tell("animate screen")?;
        page.wait_frames(30)?;
        // Another size, in the middle of it.
        card.tell("mode 1024x768 XRGB8888")?;
        card.tell("still 4")?;
        page.wait_like(&card.expected()?, TRUE)?;
        guest.kill_agent("KILL")?;
        page.wait_text("#title", "rebooting")?;
        guest.start_agent(&[])?;
        page.wait_like(&card.expected()?, TRUE)?;
        let complaints = page.tell_to("complaints")?;
        ensure!(complaints == json!([]), "{complaints}");
        Ok(())
    });
}

#[test]
fn coloured_text_is_crisp_where_all_who_watch_take_full_colour() {
    machine_test("coloured text is crisp in 4:4:4", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("text 1")?;
        let wanted = card.expected()?;
        // The tests' relay sends plain RTP besides, and that player's ffmpeg takes it, too.
        let web = Web::start(test, &guest, &[("TRANSOM_CHROMA", "444")])?;
        let mut page = Browser::start(test)?;
        page.open(web.base())?;
        page.wait_text("#badge", "watching")?;
        if other_encoder()?.is_some_and(|name| name != "screen") {
            // What is asked for is not what that encoder knows: the picture comes all the same.
            page.wait_frames(1)?;
            return wait_colour(&web, "4:2:0");
        }
        wait_colour(&web, "4:4:4")?;
        let full = page.wait_like(&wanted, CRISP)?;
        // Another viewer does not want it: all get what that one can show.
        let mut second = Browser::start(test)?;
        second.open(web.base())?;
        second.wait_text("#badge", "watching")?;
        second.tell(&json!({ "do": "click", "selector": "#help" }))?;
        second.tell(&json!({ "do": "click", "selector": "#colour" }))?;
        wait_colour(&web, "4:2:0")?;
        card.tell("text 2")?;
        let other = card.expected()?;
        second.wait_like(&other, BLURRED)?;
        page.wait_like(&other, BLURRED)?;
        // As good as it gets: what is coarse at first is refined within a second.
        let mut halved = 0f64;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            halved = halved.max(page.picture()?.psnr(&other)?);
        }
        println!("{full:.1} dB in 4:4:4, {halved:.1} dB in 4:2:0");
        ensure!(full > halved + 3.0, "4:4:4 is no better: {full:.1} dB, {halved:.1} dB");
        // That one leaves, and full colour comes back to the one who has stayed all the time.
        second.tell_to("close")?;
        wait_colour(&web, "4:4:4")?;
        page.wait_like(&other, CRISP)?;
        card.tell("text 3")?;
        page.wait_like(&card.expected()?, CRISP)?;
        let complaints = page.tell_to("complaints")?;
        ensure!(complaints == json!([]), "{complaints}");
        Ok(())
    });
}

/// Waits until the guest sends so much colour.
fn wait_colour(web: &Web, chroma: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while web.guests()?[0]["chroma"] != chroma {
        ensure!(Instant::now() < end, "no {chroma}: {:?}", web.guests()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn firefox_shows_and_steers_too() {
    machine_test("firefox shows and steers", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let log = EventLog::start(&guest, test)?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;
        // Firefox sends nothing to loopback addresses. Nothing is sent to find our own, either.
        let way = UdpSocket::bind("0.0.0.0:0")?;
        way.connect("198.51.100.1:9").context("this machine has no address but loopback")?;
        let own = SocketAddr::new(way.local_addr()?.ip(), free_udp_port()?).to_string();
        let web = Web::start(test, &guest, &[("TRANSOM_WEBRTC_UDP", own.as_str())])?;
        let mut page = Browser::start_firefox(test)?;
        page.open(&web.link_as("control")?)?;
        page.wait_text("#badge", "you have control")?;
        println!("{:.1} dB", page.wait_like(&card.expected()?, TRUE)?);
        card.tell("animate screen")?;
        page.wait_frames(30)?;
        page.tell_to("focus")?;
        page.tell(&json!({ "do": "press", "key": "w" }))?;
        let (pressed, _) = log.wait(0, "Transom keyboard: 1 17 1 ")?;
        log.wait(pressed, "Transom keyboard: 1 17 0 ")?;
        let complaints = page.tell_to("complaints")?;
        ensure!(complaints == json!([]), "{complaints}");
        Ok(())
    });
}

#[test]
fn control_goes_from_hand_to_hand_and_leaves_nothing_held() {
    machine_test("control goes from hand to hand", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let log = EventLog::start(&guest, test)?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let web = Web::start(test, &guest, &[])?;
        let mut first = Browser::start(test)?;
        first.open(&web.link_as("control")?)?;
        first.wait_text("#badge", "you have control")?;
        first.tell_to("focus")?;
        first.tell(&json!({ "do": "down", "key": "KeyW" }))?;
        let (held, _) = log.wait(0, "Transom keyboard: 1 17 1 ")?;
        // Another takes it: what was held is released.
        let mut second = Browser::start(test)?;
        second.open(&web.link_as("control")?)?;
        second.wait_text("#badge", "somebody else has control")?;
        second.tell(&json!({ "do": "click", "selector": "#take" }))?;
        second.wait_text("#badge", "you have control")?;
        first.wait_text("#badge", "somebody else has control")?;
        let (released, _) = log.wait(held, "Transom keyboard: 1 17 0 ")?;
        first.tell(&json!({ "do": "press", "key": "KeyX" }))?;
        second.tell(&json!({ "do": "down", "key": "KeyY" }))?;
        let (typed, _) = log.wait(released, "Transom keyboard: 1 21 1 ")?;
        ensure!(!told(&log, released, ": 1 45 "), "a key of who lost control came through");
        // The page loses the focus, and later is closed: each releases.
        second.tell_to("blur")?;
        let (blurred, _) = log.wait(typed, "Transom keyboard: 1 21 0 ")?;
        second.tell(&json!({ "do": "down", "key": "KeyZ" }))?;
        let (last, _) = log.wait(blurred, "Transom keyboard: 1 44 1 ")?;
        second.tell_to("close")?;
        log.wait(last, "Transom keyboard: 1 44 0 ")?;
        first.wait_text("#badge", "nobody has control")?;
        // A mouse, by place, and a gamepad; the first to do something has control.
        let mark = log.mark();
        first.tell(&json!({ "do": "move", "x": 640, "y": 400 }))?;
        log.wait(mark, "Transom tablet: 3 0 ")?;
        first.tell(&json!({ "do": "mouse", "button": "right" }))?;
        log.wait(mark, "Transom tablet: 1 273 1 ")?;
        log.wait(mark, "Transom tablet: 1 273 0 ")?;
        first.tell(&json!({ "do": "wheel", "x": 0, "y": 100 }))?;
        log.wait(mark, "Transom mouse: 2 11 -120 ")?;
        first.tell_to("plug")?;
        let (plugged, _) = log.wait(mark, &format!("+ {PAD}"))?;
        first.tell(&json!({ "do": "pad", "button": 0, "pressed": true }))?;
        let (pressed, _) = log.wait(plugged, &format!("{PAD}: 1 304 1 "))?;
        first
            .tell(&json!({ "do": "pad", "button": 0, "pressed": false, "axis": 0, "value": 1 }))?;
        log.wait(pressed, &format!("{PAD}: 1 304 0 "))?;
        log.wait(pressed, &format!("{PAD}: 3 0 32767 "))?;
        // Watching is not playing.
        let mut third = Browser::start(test)?;
        third.open(&web.link_as("view")?)?;
        third.wait_text("#badge", "watching")?;
        third.tell_to("focus")?;
        third.tell(&json!({ "do": "press", "key": "KeyQ" }))?;
        first.tell_to("focus")?;
        first.tell(&json!({ "do": "press", "key": "KeyE" }))?;
        log.wait(last, "Transom keyboard: 1 18 1 ")?;
        ensure!(!told(&log, last, ": 1 16 "), "a key of who only watches came through");
        Ok(())
    });
}

#[test]
fn a_link_that_is_revoked_ends_its_session() {
    machine_test("a link that is revoked ends its session", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;
        let web = Web::start(test, &guest, &[("TRANSOM_REQUIRE_TOKEN", "1")])?;
        let link = web.link(&["--all", "--role", "view"])?;
        let mut page = Browser::start(test)?;
        page.open(link["url"].as_str().context("no URL")?)?;
        page.wait_text("#badge", "watching")?;
        web.link(&["--revoke", link["id"].as_str().context("no id")?])?;
        page.wait_text("#title", "link")?;
        let mut stranger = Browser::start(test)?;
        stranger.open(web.base())?;
        stranger.wait_text("#title", "needs a link")?;
        Ok(())
    });
}

#[test]
fn a_whep_player_of_others_plays_from_an_origin_that_is_allowed() {
    machine_test("a WHEP player of others plays", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 5")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let origin = format!("http://127.0.0.1:{port}");
        let web = Web::start(test, &guest, &[("TRANSOM_ALLOW_ORIGIN", &origin)])?;
        let path = web.guests()?[0]["path"].as_str().context("no path")?.to_owned();
        let mut player = Browser::start(test)?;
        let url = format!("{}{path}/whep", web.base());
        player.tell(&json!({ "do": "whep", "url": url, "port": port }))?;
        println!("{:.1} dB", player.wait_like(&card.expected()?, TRUE)?);
        card.tell("animate screen")?;
        player.wait_frames(30)?;
        let complaints = player.tell_to("complaints")?;
        ensure!(complaints == json!([]), "{complaints}");
        // This player closes its connection first and then deletes the session, which may be gone
        // by then: it is told so.
        player.tell_to("stop")?;
        let end = Instant::now() + Duration::from_secs(20);
        while web.guests()?[0]["viewers"] != 0 {
            ensure!(Instant::now() < end, "the session did not end");
        }
        Ok(())
    });
}

#[test]
fn the_first_page_leads_to_each_of_two_guests() {
    machine_test("the first page leads to each of two guests", LIMIT, |test| {
        let guests = [Uml::new(test).name("doom").boot()?, Uml::new(test).name("desk").boot()?];
        let mut cards = Vec::new();
        for (guest, (size, still)) in guests.iter().zip([("1280x720", 3), ("1024x768", 4)]) {
            guest.start_agent(&[])?;
            let mut card = guest.testcard()?;
            card.tell(&format!("mode {size} XRGB8888"))?;
            card.tell(&format!("still {still}"))?;
            cards.push(card);
        }
        let [doom, desk] = [&guests[0], &guests[1]].map(Guest::address);
        let (key, chain) = certificate(test)?;
        // By HTTPS, of which the page must not notice anything.
        let settings = [("TRANSOM_TLS_KEY", key.as_str()), ("TRANSOM_TLS_CERT", chain.as_str())];
        let web = Web::start_named(test, &[("doom", &doom), ("desk", &desk)], &settings)?;
        ensure!(web.base().starts_with("https://"), "{}", web.base());
        let all = web.link(&["--all"])?;
        let all = all["url"].as_str().context("no URL")?;
        let mut page = Browser::start(test)?;
        {
            let (name, size, card) = ("doom", "1280 × 720", &mut cards[0]);
            page.open(all)?;
            page.wait_text(&format!(".cards a[href='/{name}/']"), size)?;
            page.tell(&json!({ "do": "click", "selector": format!(".cards a[href='/{name}/']") }))?;
            page.wait_text("#badge", "you have control")?;
            println!("{name}: {:.1} dB", page.wait_like(&card.expected()?, TRUE)?);
        }
        // The other one meanwhile, by a viewer of its own; both are told apart.
        let mut other = Browser::start(test)?;
        other.open(all)?;
        other.wait_text(".cards a[href='/doom/']", "somebody plays")?;
        other.wait_text(".cards a[href='/desk/']", "1024 × 768")?;
        other.tell(&json!({ "do": "click", "selector": ".cards a[href='/desk/']" }))?;
        other.wait_text("#badge", "you have control")?;
        println!("desk: {:.1} dB", other.wait_like(&cards[1].expected()?, TRUE)?);
        let viewers: Vec<_> = web.guests()?.iter().map(|guest| guest["viewers"].clone()).collect();
        ensure!(viewers == [1, 1], "{viewers:?}");
        // One of them goes away, and the list says so.
        guests[1].kill_agent("KILL")?;
        page.open(all)?;
        page.wait_text(".cards a[href='/desk/']", "waiting")?;
        page.wait_text(".cards a[href='/doom/']", "streaming")?;
        let complaints = other.tell_to("complaints")?;
        ensure!(complaints == json!([]), "{complaints}");
        Ok(())
    });
}

/// A certificate and its key, as a user may have them: made by OpenSSL, for this test alone.
fn certificate(test: &Test) -> Result<(String, String)> {
    let path = |name: &str| test.dir().join(name).display().to_string();
    let (key, chain) = (path("own-key.pem"), path("own.pem"));
    let mut openssl = Process::command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.args(["-keyout", &key, "-out", &chain]).stdin(Stdio::null());
    let made = openssl.output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok((key, chain))
}

/// A guest that is there and says nothing, and its address.
fn silent(test: &Test) -> Result<(UnixListener, String)> {
    let socket = test.socket("silent.vsock");
    Ok((UnixListener::bind(&socket)?, format!("unix:{}", socket.display())))
}

/// In a network of its own, where the relay can be asked from an address that is not loopback.
const BEYOND: &str = r#"
set -eu
ip link set lo up
ip address add 192.0.2.2/32 dev lo
base=192.0.2.2:8889
relay() {
    rm -f "$TRANSOM_STATE/relay"
    "$TRANSOM" relay "doom=$GUEST" --http "$base" "$@" >/dev/null 2>"$TRANSOM_STATE/log" &
    relay=$!
    until [ -e "$TRANSOM_STATE/relay" ]; do kill -0 $relay; sleep 0.05; done
}
end() { kill $relay; wait $relay || true; }
ask() { curl -s --max-time 20 -o /dev/null -w '%{http_code} %{redirect_url}
' "$@"; }
mkdir -p "$TRANSOM_STATE"
relay
pem=$TRANSOM_STATE/tls.pem
stat -c %a "$pem"
openssl x509 -in "$pem" -noout -fingerprint -sha256 | sed 's/.*=//'
sed -n 's/.*SHA-256 //p' "$TRANSOM_STATE/log"
ask --cacert "$pem" "https://$base/"
ask --cacert "$pem" "https://$base/api/guests"
ask "http://$base/doom/?token=secret"
ask -X POST "http://$base/doom/whep"
link=$("$TRANSOM" link doom --json)
echo "$link"
token=$(echo "$link" | sed 's/.*"token":"\([^"]*\)".*/\1/')
ask --cacert "$pem" -H "Authorization: Bearer $token" "https://$base/api/guests"
stream=$("$TRANSOM" link doom --ts)
ask --cacert "$pem" "$stream"
! grep -F "$token" "$TRANSOM_STATE/log"
end
relay
sed -n 's/.*SHA-256 //p' "$TRANSOM_STATE/log"
end
relay --insecure-http
ask "http://$base/api/guests"
chmod 644 "$pem"
end
if "$TRANSOM" relay "doom=$GUEST" --http "$base" 2>&1; then exit 1; fi
"#;

#[test]
fn beyond_loopback_the_page_is_https_with_a_certificate_that_stays() {
    machine_test("beyond loopback the page is https", LIMIT, |test| {
        let (_silent, silent) = silent(test)?;
        let mut command = Process::command("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", BEYOND]);
        command.env("TRANSOM", release_dir().join("transom")).env("GUEST", silent);
        command.env("TRANSOM_STATE", test.dir().join("state")).stdin(Stdio::null());
        let told = command.output()?;
        let words = String::from_utf8_lossy(&told.stdout);
        ensure!(told.status.success(), "{words}{}", String::from_utf8_lossy(&told.stderr));
        let lines: Vec<_> = words.lines().collect();
        println!("{words}");
        let wanted = [
            "600",
            lines[1],
            lines[1],
            // The page is no secret, what it asks for is.
            "303 https://192.0.2.2:8889/doom/",
            "401 ",
            // The way to HTTPS, without what should not have been said.
            "308 https://192.0.2.2:8889/doom/",
            "400 ",
        ];
        ensure!(lines[1].len() == 95 && lines[..7] == wanted, "{words}");
        ensure!(lines[7].contains(r#""url":"https://192.0.2.2:8889/doom/#token="#), "{words}");
        ensure!(lines[7].contains(lines[1]), "the link does not tell the fingerprint");
        // The guest is not there.
        ensure!(lines[8..11] == ["200 ", "503 ", lines[1]], "{words}");
        ensure!(lines[11] == "401 ", "{words}");
        ensure!(words.contains("could pose as this relay"), "{words}");
        Ok(())
    });
}

#[test]
fn everything_listens_on_loopback_unless_told_otherwise() {
    machine_test("everything listens on loopback", LIMIT, |test| {
        let (_silent, silent) = silent(test)?;
        let mut command = Process::command(release_dir().join("transom"));
        command.args(["relay", &silent, "--http", "0", "--rtsp", "0", "--metrics", "0"]);
        command.env("TRANSOM_STATE", test.dir().join("state"));
        let relay =
            Process::spawn(test, "relay", command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        for said in ["RTSP at ", "pages at "] {
            relay.stderr().wait(said, Duration::from_secs(30))?;
        }
        let sockets = sockets(relay.pid())?;
        println!("{sockets:#?}");
        let count = |kind: &str| sockets.iter().filter(|(name, _)| name.starts_with(kind)).count();
        // The page, RTSP, metrics; WebRTC, RTP and RTCP.
        ensure!((count("tcp"), count("udp")) == (3, 3), "other sockets than expected");
        for (kind, address) in &sockets {
            ensure!(address.ip().is_loopback(), "{kind} {address} can be reached from elsewhere");
        }
        Ok(())
    });
}

/// A process's sockets that wait for others, as the kernel tells: TCP that listens, and UDP.
fn sockets(pid: u32) -> Result<Vec<(String, SocketAddr)>> {
    let mut own = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(link) = std::fs::read_link(entry?.path()) else { continue };
        if let Some(inode) = link.to_string_lossy().strip_prefix("socket:[") {
            own.push(inode.trim_end_matches(']').to_owned());
        }
    }
    let mut found = Vec::new();
    for kind in ["tcp", "tcp6", "udp", "udp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{kind}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, _, state, ..] = fields[..] else { continue };
            let waits = kind.starts_with("udp") || state == "0A";
            let inode = fields.get(9).context("no inode")?;
            if waits && own.iter().any(|ours| ours == inode) {
                found.push((kind.to_owned(), address(local)?));
            }
        }
    }
    Ok(found)
}

/// `0100007F:1F90` and its longer sister: words in the machine's order.
fn address(text: &str) -> Result<SocketAddr> {
    let (ip, port) = text.split_once(':').context("no port")?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(&ip[at..at + 8], 16)?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..])?),
    };
    Ok(SocketAddr::new(ip, u16::from_str_radix(port, 16)?))
}

#[test]
fn a_thousand_who_say_nothing_keep_nobody_from_playing() {
    machine_test("a thousand who say nothing", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let web = Web::start(test, &guest, &[])?;
        let mut page = Browser::start(test)?;
        page.open(web.base())?;
        page.wait_frames(30)?;
        let host = web.base().trim_start_matches("http://").to_owned();
        let mut silent = Vec::new();
        for i in 0..1000 {
            // The relay closes the oldest, which need no descriptor here any more.
            let mut socket = TcpStream::connect(&host)?;
            if i % 2 == 0 {
                socket.write_all(b"GET /doom/ HTTP/1.1\r\nHost: loc")?;
            }
            silent.push(socket);
            if silent.len() > 600 {
                silent.remove(0);
            }
        }
        page.wait_frames(60)?;
        let mut late = Browser::start(test)?;
        late.open(web.base())?;
        late.wait_frames(30)?;
        page.wait_frames(30)?;
        Ok(())
    });
}

/// Not a check: takes the pictures of docs/web.md anew, of the image's own game.
#[test]
#[ignore = "writes docs/images"]
fn pictures_of_the_page() {
    machine_test("pictures of the page", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        let desk = Uml::new(test).name("desk").boot()?;
        desk.start_agent(&[])?;
        let mut card = desk.testcard()?;
        card.tell("mode 1024x768 XRGB8888")?;
        card.tell("animate screen")?;
        // Somebody listens there, and that is all.
        let build = test.socket("build.vsock");
        let _build = UnixListener::bind(&build)?;
        let build = format!("unix:{}", build.display());
        let guests = [("doom", &*guest.address()), ("desk", &*desk.address()), ("build", &*build)];
        let web = Web::start_named(test, &guests, &[])?;
        let mut page = Browser::start(test)?;
        page.tell(&json!({ "do": "size", "width": 1024, "height": 640 }))?;
        page.open(&web.link_as("control")?)?;
        page.wait_text("#title", "Waiting")?;
        shoot(test, &mut page, "waiting-light")?;
        guest.start_agent(&[])?;
        guest.start_compositor()?;
        page.wait_text("#badge", "you have control")?;
        page.wait_frames(300)?;
        shoot(test, &mut page, "playing-dark")?;
        page.tell(&json!({ "do": "click", "selector": "#stats" }))?;
        page.wait_text("#overlay", "Encode")?;
        page.wait_frames(60)?;
        shoot(test, &mut page, "figures-dark")?;
        page.tell(&json!({ "do": "click", "selector": "#stats" }))?;
        let mut second = Browser::start(test)?;
        second.tell(&json!({ "do": "size", "width": 1024, "height": 640 }))?;
        second.open(&web.link_as("control")?)?;
        second.wait_text("#badge", "somebody else")?;
        second.wait_frames(30)?;
        shoot(test, &mut second, "taken-light")?;
        second.tell(&json!({ "do": "click", "selector": "#help" }))?;
        shoot(test, &mut second, "help-light")?;
        let all = web.link(&["--all"])?;
        second.open(all["url"].as_str().context("no URL")?)?;
        second.wait_text(".cards a[href='/desk/']", "fps")?;
        shoot(test, &mut second, "picker-dark")?;
        guest.kill_agent("KILL")?;
        page.wait_text("#title", "rebooting")?;
        shoot(test, &mut page, "rebooting-dark")?;
        Ok(())
    });
}

/// Keeps what a page looks like, dark or light, in few enough colours to be small.
fn shoot(test: &Test, page: &mut Browser, name: &str) -> Result<()> {
    let scheme = name.rsplit('-').next().unwrap_or_default();
    let (full, kept) = (test.dir().join("page.png"), format!("docs/images/web-{name}.png"));
    page.tell(&json!({ "do": "scheme", "scheme": scheme }))?;
    page.tell(&json!({ "do": "screenshot", "file": full }))?;
    let filter = "scale=896:560:flags=area,split[a][b];\
                  [a]palettegen=max_colors=56[p];[b][p]paletteuse=dither=none";
    let mut ffmpeg = Process::command("ffmpeg");
    ffmpeg.args(["-y", "-v", "error", "-i"]).arg(&full).args(["-vf", filter]);
    let ended = ffmpeg.arg(project_dir().join(kept)).stdin(Stdio::null()).status()?;
    ensure!(ended.success(), "ffmpeg could not make it small");
    Ok(())
}
