//! Documents of the envelope: read from any bytes, and what was read is written and read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skynet::rpc::message::{
    ClientHandshake, RequestBody, RequestHeader, ResponseBody, ResponseHeader, ServiceHandshake,
    leading_document,
};

/// Reads, writes, reads again, and compares.
macro_rules! same {
    ($kind:ident, $data:expr) => {
        if let Ok(read) = $kind::read($data) {
            let mut written = Vec::new();
            read.write(&mut written);
            let again = $kind::read(&written).expect("what was written does not read");
            assert_eq!(again, read);
        }
    };
}

fuzz_target!(|data: &[u8]| {
    same!(ServiceHandshake, data);
    same!(ClientHandshake, data);
    same!(RequestHeader, data);
    same!(ResponseHeader, data);
    let _judged = leading_document(data);
    // Missing and empty parameters are written alike.
    if let Ok(mut read) = RequestBody::read(data) {
        read.input = Some(read.input.unwrap_or_default());
        let mut written = Vec::new();
        read.write(&mut written);
        let again = RequestBody::read(&written).expect("what was written does not read");
        assert_eq!(again, read);
    }
    if let Ok(mut read) = ResponseBody::read(data) {
        read.out = Some(read.out.unwrap_or_default());
        let mut written = Vec::new();
        read.write(&mut written);
        let again = ResponseBody::read(&written).expect("what was written does not read");
        assert_eq!(again, read);
    }
});
