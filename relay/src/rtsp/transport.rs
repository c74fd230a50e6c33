//! The Transport header: which way a client wants its packets, and what we make of it.
//!
//! Read here and not by rtsp-types, whose reader of this header panics on a lone quotation mark.
//! Of its parameters only ports and channels matter to us; packets go to where the request came
//! from, whatever `destination` says, or anyone could aim them at others.

/// A way for packets to reach a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RTP and RTCP to two ports of the client.
    Udp {
        /// For RTP.
        rtp: u16,
        /// For RTCP.
        rtcp: u16,
    },
    /// RTP and RTCP between the answers, on two channels of the connection.
    Tcp {
        /// For RTP.
        rtp: u8,
        /// For RTCP.
        rtcp: u8,
    },
}

/// Longest list that is looked at; clients send one to four ways.
const MAX_WAYS: usize = 16;

/// The first of the ways in a header that we can go.
pub fn choose(header: &str) -> Option<Transport> {
    header.split(',').take(MAX_WAYS).find_map(read)
}

fn read(way: &str) -> Option<Transport> {
    let mut parts = way.split(';').map(str::trim);
    let specification = parts.next()?.to_ascii_uppercase();
    let tcp = match specification.as_str() {
        // With feedback (AVPF) it is the same stream: feedback is always welcome.
        "RTP/AVP" | "RTP/AVP/UDP" | "RTP/AVPF" | "RTP/AVPF/UDP" => false,
        "RTP/AVP/TCP" | "RTP/AVPF/TCP" => true,
        _ => return None,
    };
    let (mut ports, mut channels) = (None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.to_ascii_lowercase().as_str() {
            "multicast" => return None,
            "mode" if !value.trim_matches('"').eq_ignore_ascii_case("play") => return None,
            "client_port" => ports = Some(pair::<u16>(value)?),
            "interleaved" => channels = Some(pair::<u8>(value)?),
            _ => {}
        }
    }
    if tcp {
        let (rtp, rtcp) = channels.unwrap_or((0, 1));
        Some(Transport::Tcp { rtp, rtcp })
    } else {
        let (rtp, rtcp) = ports?;
        (rtp != 0 && rtcp != 0).then_some(Transport::Udp { rtp, rtcp })
    }
}

/// `5000-5001`, or the first of them alone.
fn pair<T: std::str::FromStr + TryFrom<u32> + Into<u32> + Copy + PartialEq>(
    text: &str,
) -> Option<(T, T)> {
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (first.parse::<T>().ok()?, second.parse().ok()?),
        None => {
            let first = text.parse::<T>().ok()?;
            (first, T::try_from(first.into() + 1).ok()?)
        }
    };
    (first != second).then_some((first, second))
}

impl Transport {
    /// What stands in the answer to SETUP. `server` is our pair of ports for UDP.
    pub fn answer(&self, server: (u16, u16), ssrc: Option<u32>) -> String {
        let way = match self {
            Self::Udp { rtp, rtcp } => format!(
                "RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={}-{}",
                server.0, server.1
            ),
            Self::Tcp { rtp, rtcp } => format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}"),
        };
        match ssrc {
            Some(ssrc) => format!("{way};ssrc={ssrc:08X}"),
            None => way,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_players_send_is_understood() {
        let udp = |rtp, rtcp| Some(Transport::Udp { rtp, rtcp });
        let tcp = |rtp, rtcp| Some(Transport::Tcp { rtp, rtcp });
        for (header, way) in [
            // ffmpeg, VLC, GStreamer with its list.
            ("RTP/AVP/UDP;unicast;client_port=13550-13551", udp(13550, 13551)),
            ("RTP/AVP/TCP;unicast;interleaved=0-1", tcp(0, 1)),
            ("RTP/AVP;unicast;client_port=44038-44039", udp(44038, 44039)),
            ("RTP/AVPF;unicast;client_port=5-6,RTP/AVPF/TCP;unicast;interleaved=0-1", udp(5, 6)),
            ("RTP/AVP;multicast,RTP/AVP/TCP;unicast;interleaved=2-3", tcp(2, 3)),
            (
                "RTP/SAVP;client_port=1-2, RTP/AVP ; unicast ; client_port=7-9;mode=\"PLAY\"",
                udp(7, 9),
            ),
            ("RTP/AVP;unicast;client_port=5000", udp(5000, 5001)),
            ("RTP/AVP/TCP", tcp(0, 1)),
            ("RTP/AVP;client_port=5-6;destination=192.0.2.1", udp(5, 6)),
        ] {
            assert_eq!(choose(header), way, "{header}");
        }
    }

    #[test]
    fn what_we_cannot_do_is_not_promised() {
        for header in [
            "",
            ";",
            "\"",
            "RTP/AVP",
            "RTP/AVP;multicast",
            "RTP/SAVP;unicast;client_port=5-6",
            "RTP/AVP;unicast;client_port=0-1",
            "RTP/AVP;client_port=65535",
            "RTP/AVP;client_port=7-7",
            "RTP/AVP;client_port=x",
            "RTP/AVP/TCP;interleaved=255",
            "RTP/AVP/TCP;interleaved=256-257",
            "RTP/AVP;client_port=5-6;mode=RECORD",
            "RTP/AVP;dest_addr=\"",
        ] {
            assert_eq!(choose(header), None, "{header}");
        }
        let far = "x,".repeat(MAX_WAYS) + "RTP/AVP/TCP";
        assert_eq!(choose(&far), None);
    }

    #[test]
    fn answers_name_both_ends() {
        let udp = Transport::Udp { rtp: 5, rtcp: 6 };
        assert_eq!(
            udp.answer((8000, 8001), Some(0xab)),
            "RTP/AVP;unicast;client_port=5-6;server_port=8000-8001;ssrc=000000AB"
        );
        let tcp = Transport::Tcp { rtp: 0, rtcp: 1 };
        assert_eq!(tcp.answer((8000, 8001), None), "RTP/AVP/TCP;unicast;interleaved=0-1");
    }
}
