//! Bytes of a stream, in whatever segments: the same documents come out, and none of them hurts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skynet::rpc::frame::{FrameBuffer, FrameError, scan};
use skynet::rpc::message::Fields;

const LIMIT: usize = 4096;

/// What a stream in segments of these lengths comes to.
fn documents(stream: &[u8], segments: impl Iterator<Item = usize>) -> (Vec<Vec<u8>>, bool) {
    let mut buffer = FrameBuffer::new(LIMIT);
    let mut documents = Vec::new();
    let mut rest = stream;
    for length in segments {
        let (segment, behind) = rest.split_at(length.min(rest.len()));
        buffer.room().extend_from_slice(segment);
        buffer.filled(segment.len());
        rest = behind;
        loop {
            match buffer.take() {
                Ok(Some(document)) => documents.push(document.to_vec()),
                Ok(None) => break,
                Err(FrameError::TooShort { .. } | FrameError::TooLong { .. }) => {
                    return (documents, true);
                }
                Err(other) => panic!("an error without a case here: {other}"),
            }
        }
        // What is waited for is never more than one document.
        assert!(buffer.len() < LIMIT);
        buffer.shrink();
        if rest.is_empty() {
            break;
        }
    }
    (documents, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((seed, stream)) = data.split_first() else {
        return;
    };
    let step = usize::from(*seed) % 61 + 1;
    let growing = (0..).map(|number| (number * step) % 97 + 1);
    let whole = documents(stream, std::iter::repeat(LIMIT / 2));
    assert_eq!(documents(stream, growing), whole);
    for document in &whole.0 {
        let fields = Fields::of(document).count();
        if scan(document).is_ok() {
            // What passes is decoded without harm, and has as many fields as we read.
            if let Ok(read) = bson::Document::from_reader(document.as_slice()) {
                assert!(read.len() <= fields);
            }
        }
    }
});
