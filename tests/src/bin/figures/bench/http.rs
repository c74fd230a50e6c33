//! As much of HTTP as it takes to join: one request, one answer. Of version 1.0, whose answers come in one piece.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use super::SOON;

/// Sends a request; yields the body of a good answer.
pub fn ask(to: SocketAddr, method: &str, path: &str, kind: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("nobody serves {to}"))?;
    stream.set_read_timeout(Some(SOON))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{method} {path}: {status} {body}");
    Ok(body.to_owned())
}
