//! What goes over the [`link`](crate::link) between the front and an engine in a process of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gpusched_shared::ModelInfo;
use gpusched_shared::codec::{self, CodecError, Decode, Encode};

use crate::command::{Command, LaneSpec, PartitionSpec};
use crate::device::DeviceSpec;
use crate::event::{Event, Failure, Product};
use crate::faults::Faults;
use crate::link::{Parcel, Reader, ReceiveError, SendError, Writer};
use crate::pulse::Beat;
use crate::sealed::{UnsealError, seal, unseal};

/// What the front says.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Order {
    /// The first, with the descriptor of the device's lock, which the engine keeps for as long as it lives. Answered by
    /// `Ready` or `Failed`.
    Begin {
        /// As in [`Setup`](crate::Setup).
        lanes: Vec<LaneSpec>,
        /// Likewise.
        partitions: Vec<PartitionSpec>,
        /// Likewise, as the system spells paths.
        models: Vec<Vec<u8>>,
        /// Likewise.
        faults: Faults,
        /// Likewise.
        device: DeviceSpec,
        /// From one `Beat` to the next, in milliseconds.
        heartbeat_ms: u64,
    },
    /// To be carried out, with its files.
    Command(Command),
}

impl Order {
    fn files(&self) -> usize {
        match self {
            Self::Begin { .. } => 1,
            Self::Command(command) => command.files(),
        }
    }
}

/// What the engine says.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Report {
    /// It takes commands.
    Ready(Vec<ModelInfo>),
    /// It could not start, and why, for a person. It ends.
    Failed(String),
    /// Something happened. The bytes of a picture are in a sealed memfd that comes with it.
    Event(Event),
    /// It lives.
    Beat(Beat),
}

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The link.
    #[error(transparent)]
    Link(#[from] ReceiveError),
    /// What came is no message.
    #[error("the link carries nonsense: {0}")]
    Codec(#[from] CodecError),
    /// A message came with more or fewer descriptors than it takes.
    #[error("the link carries nonsense: {there} descriptors came with a message that takes {wanted}")]
    Descriptors {
        /// How many came.
        there: usize,
        /// How many belong to it.
        wanted: usize,
    },
    /// What came beside a message.
    #[error(transparent)]
    Sealed(#[from] UnsealError),
}

/// Sends an order with its files.
///
/// # Errors
/// [`SendError`]
pub fn send_order(writer: &Writer, order: &Order, files: &[BorrowedFd<'_>]) -> Result<(), SendError> {
    writer.send(bytes(codec::encode(order))?, files)
}

/// Waits for an order; `None` when the front is gone.
///
/// # Errors
/// [`ProtocolError`]; the link is of no more use then.
pub fn receive_order(reader: &mut Reader) -> Result<Option<(Order, Vec<OwnedFd>)>, ProtocolError> {
    let Some(Parcel { payload, descriptors }) = reader.receive()? else { return Ok(None) };
    let order: Order = codec::decode(&payload)?;
    check(descriptors.len(), order.files())?;
    Ok(Some((order, descriptors)))
}

/// Sends a report. A picture for which there is no memory becomes a failure; a preview for which there is none is not sent.
///
/// # Errors
/// [`SendError`]
pub fn send_report(writer: &Writer, mut report: Report) -> Result<(), SendError> {
    let sealed = match png(&mut report).map(|png| seal(&std::mem::take(png))).transpose() {
        Ok(sealed) => sealed,
        Err(e) => {
            let Report::Event(Event::Finished(_, result, _)) = &mut report else { return Ok(()) };
            *result = Err(Failure::engine(format!("cannot hand out the picture: {e}")));
            None
        }
    };
    let files: Vec<_> = sealed.iter().map(AsFd::as_fd).collect();
    writer.send(bytes(codec::encode(&report))?, &files)
}

/// Waits for a report; `None` when the engine is gone.
///
/// # Errors
/// [`ProtocolError`]; the link is of no more use then.
pub fn receive_report(reader: &mut Reader) -> Result<Option<Report>, ProtocolError> {
    let Some(Parcel { payload, descriptors }) = reader.receive()? else { return Ok(None) };
    let mut report: Report = codec::decode(&payload)?;
    let png = png(&mut report);
    check(descriptors.len(), usize::from(png.is_some()))?;
    if let (Some(png), Some(file)) = (png, descriptors.into_iter().next()) {
        *png = unseal(file)?;
    }
    Ok(Some(report))
}

/// The bytes that travel beside a report.
fn png(report: &mut Report) -> Option<&mut Vec<u8>> {
    match report {
        Report::Event(
            Event::Finished(_, Ok(Product::Image { png, .. } | Product::Mask { png, .. }), _)
            | Event::Previewed { png, .. },
        ) => Some(png),
        Report::Ready(_) | Report::Failed(_) | Report::Event(_) | Report::Beat(_) => None,
    }
}

fn check(there: usize, wanted: usize) -> Result<(), ProtocolError> {
    if there == wanted { Ok(()) } else { Err(ProtocolError::Descriptors { there, wanted }) }
}

/// What cannot be encoded is larger than any message may be.
fn bytes(encoded: Result<Vec<u8>, CodecError>) -> Result<Vec<u8>, SendError> {
    encoded.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e).into())
}
