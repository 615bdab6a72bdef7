//! BDAT (RFC 3030): the octets of a chunk are counted, whether they are taken or not.

use super::{Receiving, Server, Step};
use crate::smtp::{
    chunk::{ChunkSize, LineEnds},
    envelope::Envelope,
    reply::Reply,
    session::{Session, too_large},
};

/// What is kept from chunk to chunk of one message.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    lines: LineEnds,
    /// Octets of mail data so far.
    size: u64,
}

/// A chunk that is being read.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Its length, and how much of that has not come yet.
    size: ChunkSize,
    left: u64,
    refusal: Option<Refusal>,
}

/// Why a chunk is read and thrown away.
#[derive(Debug)]
enum Refusal {
    /// It should not have been sent, which counts as a fault.
    Fault(Reply),
    /// The message is larger than the limit; how large, where that was announced.
    TooLarge(Option<u64>),
}

impl Chunk {
    /// A chunk that is not taken: a client in the middle of it does not listen before its end.
    pub(super) fn refused(octets: u64, reply: Reply) -> Self {
        let size = ChunkSize { octets, last: false };
        Self { size, left: octets, refusal: Some(Refusal::Fault(reply)) }
    }
}

impl Server {
    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.session, Session::Chunked(_))
    }

    /// A chunk in its order; the first one brings the envelope.
    pub(super) fn begin_chunk(
        &mut self,
        first: Option<Box<Envelope>>,
        size: ChunkSize,
        input: &mut &[u8],
        data: &mut Vec<u8>,
    ) -> Step {
        if first.is_some() {
            self.chunks = Chunks::default();
        }
        let whole = self.chunks.size.saturating_add(size.octets);
        let refusal =
            (whole > self.rules.max_message_size).then_some(Refusal::TooLarge(Some(whole)));
        let chunk = Chunk { size, left: size.octets, refusal };
        match first {
            None => self.receive_chunk(chunk, input, data),
            Some(envelope) => {
                self.receiving = Some(Receiving::Chunk(chunk));
                Step::BeginChunks(envelope)
            }
        }
    }

    pub(super) fn receive_chunk(
        &mut self,
        mut chunk: Chunk,
        input: &mut &[u8],
        data: &mut Vec<u8>,
    ) -> Step {
        let length = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(input.len());
        let (piece, rest) = input.split_at(length);
        *input = rest;
        chunk.left -= length as u64;
        if chunk.refusal.is_none() {
            self.take_piece(&mut chunk, piece, data);
        }
        if chunk.left > 0 {
            let taken = chunk.refusal.is_none();
            self.receiving = Some(Receiving::Chunk(chunk));
            return if taken && length > 0 { Step::MailData } else { Step::NeedInput };
        }
        match chunk.refusal {
            Some(refusal) => self.refuse_chunk(refusal),
            None if chunk.size.last => {
                let bare = self.chunks.lines.met_bare_line_end();
                self.end_of_mail_data(bare)
            }
            None => {
                let text = format!("{} octets received", chunk.size.octets);
                Step::EndOfChunk(Reply::new(250, (2, 0, 0), text))
            }
        }
    }

    fn take_piece(&mut self, chunk: &mut Chunk, piece: &[u8], data: &mut Vec<u8>) {
        let before = data.len();
        self.chunks.lines.push(piece, data);
        if chunk.left == 0 && chunk.size.last {
            self.chunks.lines.finish(data);
        }
        let more = (data.len() - before) as u64;
        if self.chunks.size + more > self.rules.max_message_size {
            // More than was announced: line ends have grown.
            data.truncate(before);
            chunk.refusal = Some(Refusal::TooLarge(None));
        } else {
            self.chunks.size += more;
        }
    }

    /// Ends the transaction too: a later chunk must not pass for the whole message.
    fn refuse_chunk(&mut self, refusal: Refusal) -> Step {
        self.session = self.take_session().give_up();
        match refusal {
            Refusal::TooLarge(size) => Step::RefusedMailData(too_large(size, &self.rules)),
            Refusal::Fault(reply) => match self.fault(reply) {
                Step::Reply(reply) => Step::RefusedMailData(reply),
                close => close,
            },
        }
    }
}
