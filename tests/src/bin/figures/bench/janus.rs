//! Janus, as Debian has it, with its streaming plugin: one mount point, fed by RTP.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_protocol::message::Codec;
use transom_relay::rtp::Packetizer;
use transom_tests::{Process, Test, free_udp_port};

use super::cores::Kept;
use super::recording::Recording;
use super::viewer::Viewer;
use super::{ADDRESS, INTERFACE, http};

/// The same as the relay's for browsers.
const PACKET: usize = 1152;
/// Answers that may come before the one that is waited for.
const MAX_EVENTS: usize = 50;

/// A running Janus, with its stream; dropped means killed.
pub struct Janus {
    process: Process,
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Janus {
    /// Starts it, and feeds it the recording.
    pub fn start(test: &Test, kept: &Kept, recording: Recording) -> Result<Self> {
        let folder = test.dir().join("janus");
        std::fs::create_dir_all(&folder)?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let rtp = free_udp_port()?;
        let write = |name: &str, text: String| {
            std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))
        };
        write("janus.jcfg", general(&folder.to_string_lossy()))?;
        write("janus.transport.http.jcfg", transport(http.port()))?;
        write("janus.plugin.streaming.jcfg", stream(rtp))?;
        let mut command = kept.command("janus");
        command.arg("-F").arg(&folder).arg("-C").arg(folder.join("janus.jcfg"));
        let process =
            Process::spawn(test, "janus", command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        let over = Arc::new(AtomicBool::new(false));
        feed(recording, rtp, Arc::clone(&over))?;
        let janus = Self { process, address: http, over };
        super::wait("Janus", || Ok(janus.ask("/janus", json!({ "janus": "info" })).is_ok()))?;
        Ok(janus)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A viewer that has answered its offer.
    pub fn join(&self) -> Result<Viewer> {
        let id = |value: Value| value["data"]["id"].as_u64().context("no id");
        let session = id(self.ask("/janus", json!({ "janus": "create" }))?)?;
        let session = format!("/janus/{session}");
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.streaming" });
        let handle = format!("{session}/{}", id(self.ask(&session, attach)?)?);
        let watch = json!({ "janus": "message", "body": { "request": "watch", "id": 1 } });
        self.ask(&handle, watch)?;
        let offer = self.event(&session)?;
        let (viewer, answer) = Viewer::answer(&offer, ADDRESS)?;
        self.ask(
            &handle,
            json!({
                "janus": "message", "body": { "request": "start" },
                "jsep": { "type": "answer", "sdp": answer },
            }),
        )?;
        Ok(viewer)
    }

    fn ask(&self, path: &str, mut message: Value) -> Result<Value> {
        message["transaction"] = json!("bench");
        let body = http::ask(self.address, "POST", path, "application/json", &message.to_string())?;
        let answer: Value = serde_json::from_str(&body)?;
        ensure!(answer["janus"] != "error", "{message}: {answer}");
        Ok(answer)
    }

    /// The offer, which comes as an event.
    fn event(&self, session: &str) -> Result<String> {
        for _ in 0..MAX_EVENTS {
            let body = http::ask(self.address, "GET", session, "application/json", "")?;
            let event: Value = serde_json::from_str(&body)?;
            if let Some(offer) = event["jsep"]["sdp"].as_str() {
                return Ok(offer.to_owned());
            }
        }
        anyhow::bail!("Janus offers nothing; see janus.log")
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Sends a recording as RTP, each picture at once, as its other sources do.
fn feed(recording: Recording, port: u16, over: Arc<AtomicBool>) -> Result<()> {
    let units = recording.units()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    std::thread::spawn(move || {
        let mut packetizer = Packetizer::new(7, 0, 0, PACKET);
        let begun = Instant::now();
        for (number, unit) in (0u32..).zip(units.iter().cycle()) {
            let at = Duration::from_secs(1) * number / recording.rate;
            std::thread::sleep((begun + at).saturating_duration_since(Instant::now()));
            if over.load(Ordering::Relaxed) {
                return;
            }
            for packet in
                packetizer.packetize(Codec::H264, &unit.bytes, at.as_nanos() as i64).iter()
            {
                // Before it listens they go nowhere.
                let _ = socket.send(packet);
            }
        }
    });
    Ok(())
}

fn general(folder: &str) -> String {
    format!(
        "general: {{ configs_folder = \"{folder}\"; debug_level = 3; session_timeout = 0 }}\n\
         nat: {{ ice_enforce_list = \"{INTERFACE}\" }}\n\
         media: {{ ipv6 = false }}\n\
         plugins: {{ disable = \"libjanus_audiobridge.so,libjanus_echotest.so,libjanus_lua.so,\
         libjanus_duktape.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,\
         libjanus_textroom.so,libjanus_videocall.so,libjanus_videoroom.so,libjanus_voicemail.so\" }}\n\
         transports: {{ disable = \"libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,\
         libjanus_rabbitmq.so,libjanus_websockets.so\" }}\n"
    )
}

fn transport(port: u16) -> String {
    format!(
        "general: {{ json = \"plain\"; base_path = \"/janus\"; http = true; port = {port}; \
             ip = \"127.0.0.1\"; https = false }}\nadmin: {{ admin_http = false }}\n"
    )
}

fn stream(port: u16) -> String {
    format!(
        "bench: {{ type = \"rtp\"; id = 1; audio = false; video = true; videoport = {port}; \
         videopt = 96; videocodec = \"h264\"; \
         videofmtp = \"profile-level-id=42c033;packetization-mode=1\" }}\n"
    )
}
