//! The page in a real browser, and WHEP players that nobody here wrote.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::{
    Browser, EventLog, Guest, Process, Relay, Test, Uml, machine_test, project_dir,
};

const LIMIT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(30);
/// What the guest calls a gamepad of the page.
const PAD: &str = "Microsoft X-Box 360 pad";
/// What a picture has to reach after WebRTC, colours and all.
const TRUE: f64 = 30.0;

/// Whether an event was told behind a mark.
fn told(log: &EventLog, start: usize, event: &str) -> bool {
    log.lines()[start..].iter().any(|line| line.contains(event))
}

/// A relay with a page.
struct Web {
    _relay: Relay,
    base: String,
    state: String,
}

impl Web {
    fn start(test: &Test, guest: &Guest, settings: &[(&str, &str)]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let state = test.dir().join("state").to_string_lossy().into_owned();
        let ours = [("TRANSOM_HTTP", port.as_str()), ("TRANSOM_STATE", state.as_str())];
        let relay = Relay::start_with(test, guest, &[&ours, settings].concat())?;
        let base = format!("http://127.0.0.1:{port}");
        let noted = Path::new(&state).join("relay");
        let end = Instant::now() + SOON;
        while !noted.exists() {
            ensure!(Instant::now() < end, "the relay serves no page; see relay.log");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _relay: relay, base, state })
    }

    /// Runs `transom link`.
    fn link(&self, args: &[&str]) -> Result<Value> {
        let mut command = Relay::command();
        command.arg("link").args(args).arg("--json").env("TRANSOM_STATE", &self.state);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A link to the only guest.
    fn link_as(&self, role: &str) -> Result<String> {
        let name = self.guests()?[0]["name"].as_str().unwrap_or_default().to_owned();
        let link = self.link(&[&name, "--role", role])?;
        Ok(link["url"].as_str().context("no URL")?.to_owned())
    }

    /// `GET /api/guests`, as a script would.
    fn guests(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/guests", self.base);
        let mut command = Process::command("curl");
        command.args(["-sSf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", &url]);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
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
        page.open(&web.base)?;
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
        stranger.open(&web.base)?;
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
        let url = format!("{}{path}/whep", web.base);
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
        guest.start_agent(&[])?;
        guest.start_compositor()?;
        let web = Web::start(test, &guest, &[])?;
        let mut page = Browser::start(test)?;
        let shoot = |page: &mut Browser, name: &str| -> Result<()> {
            for scheme in ["dark", "light"] {
                let file = project_dir().join(format!("docs/images/web-{name}-{scheme}.png"));
                page.tell(&json!({ "do": "scheme", "scheme": scheme }))?;
                page.tell(&json!({ "do": "screenshot", "file": file }))?;
            }
            Ok(())
        };
        page.open(&web.link_as("control")?)?;
        page.wait_text("#badge", "control")?;
        page.wait_frames(60)?;
        shoot(&mut page, "playing")?;
        page.tell(&json!({ "do": "click", "selector": "#stats" }))?;
        page.wait_text("#overlay", "Frames")?;
        page.wait_frames(60)?;
        page.tell(
            &json!({ "do": "text", "selector": "#overlay", "pattern": "Encode", "seconds": 20 }),
        )?;
        shoot(&mut page, "figures")?;
        let mut second = Browser::start(test)?;
        second.open(&web.link_as("control")?)?;
        second.wait_text("#badge", "somebody else")?;
        second.wait_frames(30)?;
        shoot(&mut second, "taken")?;
        second.tell(&json!({ "do": "click", "selector": "#help" }))?;
        shoot(&mut second, "help")?;
        guest.kill_agent("KILL")?;
        page.wait_text("#title", "rebooting")?;
        page.tell(&json!({ "do": "click", "selector": "#stats" }))?;
        shoot(&mut page, "rebooting")?;
        Ok(())
    });
}
