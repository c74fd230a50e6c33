//! The session description that a viewer opens to watch the RTP stream.
//!
//! [`describe`] makes the text; [`SdpFile`] keeps a file in step with it, replacing it in one
//! move, so that a viewer never reads half of it.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use transom_protocol::message::Codec;

use crate::{
    rtp::{CLOCK_RATE, payload_type},
    sets::ParameterSets,
};

/// What a description says beside the parameter sets.
#[derive(Debug, Clone)]
pub struct Session {
    /// Tells this stream from others of the same origin.
    pub id: u32,
    /// Our address as the target sees it.
    pub origin: IpAddr,
    /// Where the stream goes.
    pub target: SocketAddr,
    /// Hops that multicast may take.
    pub ttl: u8,
}

/// The description, or nothing while parameter sets are not known. RTCP goes to the port above.
pub fn describe(session: &Session, version: u32, sets: &ParameterSets) -> Option<String> {
    let Session { id, origin, target, ttl } = session;
    let (ip, port) = (target.ip(), target.port());
    // IPv6 has its scope in the address, RFC 4566 5.7.
    let hops = if ip.is_multicast() && ip.is_ipv4() { format!("/{ttl}") } else { String::new() };
    Some(lines([
        "v=0".into(),
        format!("o=- {id} {version} IN {} {origin}", family(*origin)),
        "s=Transom".into(),
        format!("c=IN {} {ip}{hops}", family(ip)),
        "t=0 0".into(),
        format!("m=video {port} RTP/AVP {}", payload_type(sets.codec())),
        map(sets.codec()),
        format(sets)?,
        "a=recvonly".into(),
    ]))
}

/// The same for RTSP: where packets go is agreed upon later, for the `track` that is named here.
pub fn describe_for_rtsp(
    id: u32,
    origin: IpAddr,
    track: &str,
    sets: &ParameterSets,
) -> Option<String> {
    let payload = payload_type(sets.codec());
    let nowhere = if origin.is_ipv4() { "0.0.0.0" } else { "::" };
    Some(lines([
        "v=0".into(),
        format!("o=- {id} 0 IN {} {origin}", family(origin)),
        "s=Transom".into(),
        format!("c=IN {} {nowhere}", family(origin)),
        "t=0 0".into(),
        "a=control:*".into(),
        "a=range:npt=now-".into(),
        format!("m=video 0 RTP/AVP {payload}"),
        map(sets.codec()),
        format(sets)?,
        // Receivers may ask for an IDR; those that know only AVP ignore this.
        format!("a=rtcp-fb:{payload} nack pli"),
        format!("a=rtcp-fb:{payload} ccm fir"),
        format!("a=control:{track}"),
    ]))
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}

fn format(sets: &ParameterSets) -> Option<String> {
    let (vps, sps, pps) = sets.get()?;
    let payload = payload_type(sets.codec());
    match sets.codec() {
        Codec::H264 => {
            let [profile, constraints, level] = sets.profile_level_id()?;
            Some(format!(
                "a=fmtp:{payload} packetization-mode=1;\
                 profile-level-id={profile:02X}{constraints:02X}{level:02X};\
                 sprop-parameter-sets={},{}",
                base64(sps),
                base64(pps)
            ))
        }
        // The profile that RFC 7798 takes for granted is Main, and the level stands in the SPS.
        Codec::Hevc => Some(format!(
            "a=fmtp:{payload} sprop-vps={};sprop-sps={};sprop-pps={}",
            base64(vps),
            base64(sps),
            base64(pps)
        )),
    }
}

/// The codec's name and clock.
fn map(codec: Codec) -> String {
    let name = match codec {
        Codec::H264 => "H264",
        Codec::Hevc => "H265",
    };
    format!("a=rtpmap:{} {name}/{CLOCK_RATE}", payload_type(codec))
}

fn lines<const N: usize>(lines: [String; N]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let bits = (0..3).fold(0, |n, i| n << 8 | chunk.get(i).map_or(0, |b| usize::from(*b)));
            (0..4).map(move |i| match i <= chunk.len() {
                true => DIGITS[bits >> (18 - 6 * i) & 63] as char,
                false => '=',
            })
        })
        .collect()
}

/// A file that always holds the whole, current description.
#[derive(Debug)]
pub struct SdpFile {
    path: PathBuf,
    version: u32,
}

/// Why a description cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the SDP file {}: {why}. Name a path in a folder that you may write to", path.display())]
pub struct SdpError {
    path: PathBuf,
    why: io::Error,
}

impl SdpFile {
    /// Makes sure the file can be written, before anything is streamed. A file of an earlier run
    /// is removed: who waits for the file shall find a description of this stream.
    ///
    /// # Errors
    ///
    /// The path cannot be written.
    pub fn new(path: &Path) -> Result<Self, SdpError> {
        let file = Self { path: path.into(), version: 0 };
        let probe = || {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            fs::write(file.draft(), "")?;
            fs::remove_file(file.draft())?;
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        };
        match probe() {
            Ok(()) => Ok(file),
            Err(why) => Err(SdpError { path: path.into(), why }),
        }
    }

    /// Writes a new description; `false` while there is none to write.
    ///
    /// # Errors
    ///
    /// The path cannot be written any more.
    pub fn update(&mut self, session: &Session, sets: &ParameterSets) -> Result<bool, SdpError> {
        let Some(text) = describe(session, self.version, sets) else { return Ok(false) };
        fs::write(self.draft(), text)
            .and_then(|()| fs::rename(self.draft(), &self.path))
            .map_err(|why| SdpError { path: self.path.clone(), why })?;
        self.version += 1;
        Ok(true)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In the same folder, or the move would not be one.
    fn draft(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> ParameterSets {
        let mut sets = ParameterSets::default();
        sets.update(
            Codec::H264,
            &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80],
        );
        sets
    }

    fn session(target: &str) -> Session {
        Session {
            id: 77,
            origin: [192, 0, 2, 1].into(),
            target: target.parse().expect("a socket address"),
            ttl: 3,
        }
    }

    #[test]
    fn a_unicast_description_reads_like_this() {
        let expected = "v=0\r\n\
            o=- 77 2 IN IP4 192.0.2.1\r\n\
            s=Transom\r\n\
            c=IN IP4 192.0.2.9\r\n\
            t=0 0\r\n\
            m=video 5004 RTP/AVP 96\r\n\
            a=rtpmap:96 H264/90000\r\n\
            a=fmtp:96 packetization-mode=1;profile-level-id=42C01F;sprop-parameter-sets=Z0LAH9o=,aM48gA==\r\n\
            a=recvonly\r\n";
        assert_eq!(describe(&session("192.0.2.9:5004"), 2, &sets()).as_deref(), Some(expected));
    }

    #[test]
    fn hevc_is_described_by_all_of_its_parameter_sets() {
        let mut sets = ParameterSets::default();
        let unit =
            [0, 0, 0, 1, 64, 1, 7, 0, 0, 1, 66, 1, 8, 9, 0, 0, 1, 68, 1, 3, 0, 0, 1, 38, 1, 0xaf];
        sets.update(Codec::Hevc, &unit);
        let expected = "m=video 5004 RTP/AVP 97\r\n\
            a=rtpmap:97 H265/90000\r\n\
            a=fmtp:97 sprop-vps=QAEH;sprop-sps=QgEICQ==;sprop-pps=RAED\r\n\
            a=recvonly\r\n";
        let text = describe(&session("192.0.2.9:5004"), 2, &sets).expect("all are known");
        assert!(text.ends_with(expected), "{text}");
        let ip = [192, 0, 2, 1].into();
        let text = describe_for_rtsp(77, ip, "video", &sets).expect("all are known");
        assert!(
            text.contains("a=rtpmap:97 H265/90000\r\n") && text.contains("a=rtcp-fb:97 nack pli")
        );
    }

    #[test]
    fn a_description_for_rtsp_reads_like_this() {
        let expected = "v=0\r\n\
            o=- 77 0 IN IP4 192.0.2.1\r\n\
            s=Transom\r\n\
            c=IN IP4 0.0.0.0\r\n\
            t=0 0\r\n\
            a=control:*\r\n\
            a=range:npt=now-\r\n\
            m=video 0 RTP/AVP 96\r\n\
            a=rtpmap:96 H264/90000\r\n\
            a=fmtp:96 packetization-mode=1;profile-level-id=42C01F;sprop-parameter-sets=Z0LAH9o=,aM48gA==\r\n\
            a=rtcp-fb:96 nack pli\r\n\
            a=rtcp-fb:96 ccm fir\r\n\
            a=control:video\r\n";
        let ip = [192, 0, 2, 1].into();
        assert_eq!(describe_for_rtsp(77, ip, "video", &sets()).as_deref(), Some(expected));
        assert_eq!(describe_for_rtsp(77, ip, "video", &ParameterSets::default()), None);
    }

    #[test]
    fn multicast_names_its_hops_and_ipv6_its_family() {
        let text = |target| describe(&session(target), 0, &sets()).expect("sets are known");
        assert!(text("239.1.2.3:5004").contains("c=IN IP4 239.1.2.3/3\r\n"));
        assert!(text("[ff15::1]:5004").contains("c=IN IP6 ff15::1\r\n"));
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (n, expected) in cases.iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..n]), *expected);
        }
    }

    #[test]
    fn the_file_appears_whole_and_is_replaced() {
        let folder = std::env::temp_dir().join(format!("transom-sdp-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("x.sdp");
        fs::write(&path, "stale").expect("a temporary file");
        let mut file = SdpFile::new(&path).expect("the folder can be written");
        assert!(!path.exists(), "a stale description must not be found");
        let session = session("192.0.2.9:5004");
        assert!(!file.update(&session, &ParameterSets::default()).expect("nothing to write"));
        for version in ["o=- 77 0 ", "o=- 77 1 "] {
            assert!(file.update(&session, &sets()).expect("the folder can be written"));
            assert!(fs::read_to_string(&path).expect("it is there").contains(version));
        }
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 1, "no draft is left");
        fs::remove_dir_all(&folder).expect("it is ours");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let refused = |path: &str| SdpFile::new(Path::new(path)).expect_err(path).to_string();
        assert!(refused("/nonexistent/x.sdp").contains("/nonexistent/x.sdp"));
        assert!(refused("/").contains("cannot write"));
    }
}
