//! What decoders ask of a record's headers.

use std::ffi::CStr;

/// The headers of a record. They are taken apart only when somebody asks, since few do.
pub trait Headers {
    /// The value of the last header of that name: `None` where there is no such header, `Some(None)` where it is null.
    fn last(&self, name: &CStr) -> Option<Option<&[u8]>>;
}

/// No headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn last(&self, _: &CStr) -> Option<Option<&[u8]>> {
        None
    }
}
