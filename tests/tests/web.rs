//! The page in a real browser, and WHEP players that nobody here wrote.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transom_tests::{
    Browser, EventLog, Process, Test, Uml, Web, free_udp_port, machine_test, other_encoder,
    project_dir,
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
        let web = Web::start(test, &guest, &[])?;
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

/// Not a check: takes the pictures of docs/web.md anew, of the image's own game.
#[test]
#[ignore = "writes docs/images"]
fn pictures_of_the_page() {
    machine_test("pictures of the page", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        // Somebody listens there, and that is all.
        let desk = test.socket("desk.vsock");
        let _desk = std::os::unix::net::UnixListener::bind(&desk)?;
        let (doom, desk) = (guest.address(), format!("unix:{}", desk.display()));
        let web = Web::start_named(test, &[("doom", &doom), ("desk", &desk)])?;
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
        second.wait_text(".cards", "desk")?;
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
