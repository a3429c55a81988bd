//! `Content-Encoding: lz4`, which ClickHouse's HTTP interface takes: an LZ4 frame.

use std::io::Write as _;

use bytes::Bytes;
use lz4_flex::frame::{BlockSize, Error, FrameEncoder, FrameInfo};

/// The value of the header.
pub const ENCODING: &str = "lz4";

/// The frame of `bytes`, with a checksum.
///
/// # Errors
/// None is known: nothing is written but memory.
pub fn compress(bytes: &[u8]) -> Result<Bytes, Error> {
    let info = FrameInfo::new().block_size(BlockSize::Max1MB).content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len() / 2));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}
