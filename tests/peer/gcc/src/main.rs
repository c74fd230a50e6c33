//! GStreamer as one would use it for a link that changes: x264enc that follows `rtpgccbwe`, with
//! retransmission. The sender and the receiver, in one process; what is between them is not here.
//!
//! In: raw BGRX pictures in a folder, named by number from 0 on, their count and size, the ports.
//! Out: a line on stdout for each picture that enters, with its RTP time and nanoseconds since 1970,
//! and one for each estimate. Ends when stdin does.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gst::prelude::*;

/// Pictures per second.
const RATE: u32 = 60;
const TWCC: &str =
    "extmap-1=(string)http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const MAP: &str = "payload-type-map=application/x-rtp-pt-map,96=(uint)97";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count, width, height, media, reports, back, receiver, told, sender] =
        &arguments[..]
    else {
        return Err(
            "usage: FOLDER COUNT WIDTH HEIGHT MEDIA REPORTS BACK RECEIVER TOLD SENDER".into()
        );
    };
    let read = |i: usize| std::fs::read(PathBuf::from(folder).join(format!("{i}.raw")));
    let pictures = (0..count.parse()?).map(read).collect::<std::io::Result<Vec<_>>>()?;
    gst::init()?;
    gstrsrtp::plugin_register_static()?;

    let caps = format!("application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,{TWCC}");
    // As webrtcsink sets it up, but for the first estimate, which is right: from 2 Mb/s on it takes half
    // a minute to find 20.
    let sending = gst::parse::launch(&format!(
        "rtpsession name=s rtp-profile=avpf \
         appsrc name=in is-live=true format=time max-buffers=1 leaky-type=downstream \
         caps=video/x-raw,format=BGRx,width={width},height={height},framerate={RATE}/1 ! \
         videoconvert ! video/x-raw,format=I420 ! \
         x264enc name=x tune=zerolatency speed-preset=ultrafast key-int-max=2560 b-adapt=false \
         vbv-buf-capacity=120 bitrate=20000 ! video/x-h264,profile=constrained-baseline ! \
         rtph264pay mtu=1152 pt=96 ssrc=7 timestamp-offset=0 aggregate-mode=zero-latency \
         auto-header-extension=true ! {caps},payload=96 ! \
         rtprtxsend {MAP} max-size-packets=2048 ! \
         rtpgccbwe name=gcc min-bitrate=500000 max-bitrate=40000000 estimated-bitrate=20000000 ! \
         s.send_rtp_sink s.send_rtp_src ! \
         udpsink host=127.0.0.1 port={media} sync=false async=false \
         udpsrc port={sender} ! s.recv_rtcp_sink s.send_rtcp_src ! \
         udpsink host=127.0.0.1 port={reports} sync=false async=false"
    ))?;
    let receiving = gst::parse::launch(&format!(
        "rtpsession name=s rtp-profile=avpf \
         udpsrc port={receiver} buffer-size=2000000 caps=\"{caps},payload=96\" ! \
         s.recv_rtp_sink s.recv_rtp_src ! rtprtxreceive {MAP} ! rtpssrcdemux ! \
         rtpjitterbuffer do-retransmission=true latency=100 ! fakesink sync=false async=false \
         udpsrc port={told} ! s.recv_rtcp_sink s.send_rtcp_src ! \
         udpsink host=127.0.0.1 port={back} sync=false async=false"
    ))?;
    let bin = |element: &gst::Element| element.clone().downcast::<gst::Bin>().map_err(|_| "no bin");
    let part = |name: &str| -> Result<gst::Element> {
        Ok(bin(&sending)?.by_name(name).ok_or_else(|| format!("no {name}"))?)
    };
    let encoder = part("x")?;
    part("gcc")?.connect_notify(Some("estimated-bitrate"), move |gcc, _| {
        let rate: u32 = gcc.property("estimated-bitrate");
        encoder.set_property("bitrate", (rate / 1000).max(100));
        println!("rate {rate} {}", nanos());
    });
    let input = part("in")?.downcast::<gst_app::AppSrc>().map_err(|_| "no appsrc")?;
    receiving.set_state(gst::State::Playing)?;
    sending.set_state(gst::State::Playing)?;
    std::thread::spawn(move || {
        let begun = Instant::now();
        for (number, picture) in (0u32..).zip(pictures.iter().cycle()) {
            let at = Duration::from_secs(1) * number / RATE;
            std::thread::sleep((begun + at).saturating_duration_since(Instant::now()));
            let mut buffer = gst::Buffer::from_slice(picture.clone());
            let at = at.as_nanos() as u64;
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(gst::ClockTime::from_nseconds(at));
            }
            println!("frame {} {}", at * 9 / 100_000, nanos());
            if input.push_buffer(buffer).is_err() {
                return;
            }
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for pipeline in [&sending, &receiving] {
        for message in pipeline.bus().ok_or("no bus")?.iter() {
            if let gst::MessageView::Error(error) = message.view() {
                return Err(format!("{}: {:?}", error.error(), error.debug()).into());
            }
        }
        pipeline.set_state(gst::State::Null)?;
    }
    Ok(())
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}
