//! One diagnostic connection: hands it to those who answer, see [`crate::diag`].

use std::io;
use std::sync::Arc;

use transom_protocol::wire::Decoder;

use super::{Shared, Stream};
use crate::diag::{self, Conversation};

/// Serves the connection until its one request is answered.
pub fn run(shared: &Shared, stream: &Stream, decoder: Decoder) -> io::Result<()> {
    let talk = Conversation::new(stream.try_clone()?, decoder);
    diag::serve(&Arc::clone(&shared.diag), talk);
    Ok(())
}
