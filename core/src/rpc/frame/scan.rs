//! Judging a document's structure without recursion, before anything decodes it.
//!
//! A document that passes has lengths that fit into each other, kinds that BSON knows, at most
//! [`MAX_DEPTH`] documents inside one another, and every terminating zero. Whether strings are
//! UTF-8 is not looked at: the original does not, and decoders of values do.

use super::MIN_FRAME;

/// How many documents may stand inside one another, the outermost included.
pub const MAX_DEPTH: usize = 100;

/// Why a document does not read. The first two texts are the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// Lengths or terminators do not fit.
    #[error("Document is corrupted")]
    Corrupted,
    /// An element's kind is none of BSON's.
    #[error("Unknown element kind (0x{kind:02X})")]
    UnknownKind {
        /// The byte that should have said the kind.
        kind: u8,
    },
    /// Documents stand too deep inside one another.
    #[error("Document is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
}

/// Judges the document that `bytes` hold from their first to their last byte.
///
/// # Errors
/// When it is not one that can be decoded safely.
pub fn scan(bytes: &[u8]) -> Result<(), ScanError> {
    let mut elements = Elements::of(bytes)?;
    while elements.step()?.is_some() {}
    Ok(())
}

/// The same, without recursion however deep it is, for a document that stands inside so many others.
fn scan_inside(bytes: &[u8], outer: usize) -> Result<(), ScanError> {
    if declared_length(bytes) != Some(bytes.len()) {
        return Err(ScanError::Corrupted);
    }
    let mut ends = [0_usize; MAX_DEPTH];
    let mut depth = 0_usize;
    let mut end = bytes.len();
    let mut at = 4;
    loop {
        let kind = *bytes
            .get(at)
            .filter(|_| at < end)
            .ok_or(ScanError::Corrupted)?;
        at += 1;
        if kind == 0 {
            if at != end {
                return Err(ScanError::Corrupted);
            }
            let Some(outer) = depth.checked_sub(1) else {
                return Ok(());
            };
            depth = outer;
            end = *ends.get(depth).ok_or(ScanError::Corrupted)?;
            continue;
        }
        let rest = bytes.get(at..end).ok_or(ScanError::Corrupted)?;
        let name = cstring_length(rest).ok_or(ScanError::Corrupted)?;
        let value = rest.get(name..).ok_or(ScanError::Corrupted)?;
        at += name;
        match extent(kind, value)? {
            Extent::Plain(length) => at += length,
            Extent::Document { skip, length } => {
                *ends.get_mut(depth).ok_or(ScanError::TooDeep)? = end;
                depth += 1;
                if outer + depth >= MAX_DEPTH {
                    return Err(ScanError::TooDeep);
                }
                at += skip;
                end = at + length;
                at += 4;
            }
        }
    }
}

/// The elements of a document's outermost level, each judged as it is read, with all that stands
/// inside it: reading and judging in one pass. Whoever reads to the end has judged the document.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    /// How many documents stand around this one.
    outer: usize,
}

/// One element: its kind, its name and its value, as they stand on the wire.
pub(crate) struct Element<'a> {
    pub(crate) kind: u8,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Where in the value a document begins that stands in it.
    inside: Option<usize>,
}

impl<'a> Elements<'a> {
    /// Those of the document that `bytes` hold from their first to their last byte.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, ScanError> {
        Self::inside(bytes, 0)
    }

    /// Those of a document that stands inside so many others.
    fn inside(bytes: &'a [u8], outer: usize) -> Result<Self, ScanError> {
        if declared_length(bytes) != Some(bytes.len()) {
            return Err(ScanError::Corrupted);
        }
        let rest = bytes.get(4..).ok_or(ScanError::Corrupted)?;
        Ok(Self { rest, outer })
    }

    /// The next one; none behind the last.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<Option<Element<'a>>, ScanError> {
        let element = self.step_over()?;
        if let Some(element) = &element {
            self.judge(element)?;
        }
        Ok(element)
    }

    /// The next one, of which what stands inside is not judged: that is for the caller.
    #[inline]
    pub(crate) fn step_over(&mut self) -> Result<Option<Element<'a>>, ScanError> {
        let (kind, rest) = self.rest.split_first().ok_or(ScanError::Corrupted)?;
        if *kind == 0 {
            let is_end = rest.is_empty();
            return if is_end {
                Ok(None)
            } else {
                Err(ScanError::Corrupted)
            };
        }
        let name_length = cstring_length(rest).ok_or(ScanError::Corrupted)?;
        let (name, rest) = rest
            .split_at_checked(name_length)
            .ok_or(ScanError::Corrupted)?;
        let (length, inside) = match extent(*kind, rest)? {
            Extent::Plain(length) => (length, None),
            Extent::Document { skip, length } => (skip + length, Some(skip)),
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(ScanError::Corrupted)?;
        self.rest = rest;
        Ok(Some(Element {
            kind: *kind,
            name: name.get(..name_length - 1).unwrap_or_default(),
            value,
            inside,
        }))
    }

    /// Judges what stands inside `element`.
    pub(crate) fn judge(&self, element: &Element<'a>) -> Result<(), ScanError> {
        let Some(skip) = element.inside else {
            return Ok(());
        };
        let document = element.value.get(skip..).ok_or(ScanError::Corrupted)?;
        scan_inside(document, self.outer + 1)
    }

    /// What stands inside `element`, when it is a document, to be judged as it is read.
    pub(crate) fn enter(&self, element: &Element<'a>) -> Result<Option<Self>, ScanError> {
        if element.kind != 0x03 {
            return Ok(None);
        }
        Self::inside(element.value, self.outer + 1).map(Some)
    }
}

/// How far a value reaches.
enum Extent {
    /// So many bytes, which hold no document.
    Plain(usize),
    /// A document of `length` bytes that begins `skip` bytes into the value.
    Document { skip: usize, length: usize },
}

fn extent(kind: u8, value: &[u8]) -> Result<Extent, ScanError> {
    let length = match kind {
        0x06 | 0x0a | 0x7f | 0xff => Some(0),
        0x08 => Some(1),
        0x10 => Some(4),
        0x01 | 0x09 | 0x11 | 0x12 => Some(8),
        0x07 => Some(12),
        0x13 => Some(16),
        0x02 | 0x0d | 0x0e => string_length(value),
        0x05 => prefix(value).and_then(|length| length.checked_add(5)),
        0x0b => two_cstrings(value),
        0x0c => string_length(value).and_then(|length| length.checked_add(12)),
        0x03 | 0x04 => return document_at(value, 0),
        0x0f => return code_with_scope(value),
        _ => return Err(ScanError::UnknownKind { kind }),
    };
    length
        .filter(|length| *length <= value.len())
        .map(Extent::Plain)
        .ok_or(ScanError::Corrupted)
}

/// The length that a document announces, when it is one that a document can have.
pub(crate) fn declared_length(bytes: &[u8]) -> Option<usize> {
    prefix(bytes).filter(|length| *length >= MIN_FRAME)
}

/// A C string's length with its zero.
#[inline]
pub(crate) fn cstring_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = 0;
    // Eight bytes at a time: names are short, but every one of them is searched.
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        // The lowest bit that is left stands in the first byte that is zero.
        let zeros = word.wrapping_sub(ONES) & !word & HIGH;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8 + 1);
        }
        at += 8;
    }
    let zero = bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
    Some(at + zero + 1)
}

fn prefix(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_le_bytes(*bytes.first_chunk::<4>()?);
    usize::try_from(length).ok()
}

/// A string counts its bytes and the zero that ends it; the zero must be there.
fn string_length(value: &[u8]) -> Option<usize> {
    let length = prefix(value)?.checked_add(4)?;
    let zero = value.get(length.checked_sub(1)?)?;
    (length > 4 && *zero == 0).then_some(length)
}

fn two_cstrings(value: &[u8]) -> Option<usize> {
    let first = cstring_length(value)?;
    Some(first + cstring_length(value.get(first..)?)?)
}

fn document_at(value: &[u8], skip: usize) -> Result<Extent, ScanError> {
    let document = value.get(skip..).ok_or(ScanError::Corrupted)?;
    declared_length(document)
        .filter(|length| *length <= document.len())
        .map(|length| Extent::Document { skip, length })
        .ok_or(ScanError::Corrupted)
}

/// Its own length, a string, a document; nothing behind the document.
fn code_with_scope(value: &[u8]) -> Result<Extent, ScanError> {
    let total = prefix(value).ok_or(ScanError::Corrupted)?;
    let inside = value.get(4..total).ok_or(ScanError::Corrupted)?;
    let code = string_length(inside).ok_or(ScanError::Corrupted)?;
    match document_at(inside, code)? {
        Extent::Document { length, .. } if code + length == inside.len() => Ok(Extent::Document {
            skip: 4 + code,
            length,
        }),
        _ => Err(ScanError::Corrupted),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests index what they made")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        let mut document = vec![5, 0, 0, 0, 0];
        for _ in 1..levels {
            let length = u32::try_from(document.len() + 8).unwrap();
            let mut outer = length.to_le_bytes().to_vec();
            outer.extend_from_slice(&[3, b'd', 0]);
            outer.extend_from_slice(&document);
            outer.push(0);
            document = outer;
        }
        document
    }

    /// What reading element by element says.
    fn read(document: &[u8]) -> Result<usize, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut count = 0;
        while elements.step()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_cstring_ends_at_its_first_zero() {
        for length in 0..40 {
            let mut bytes = vec![0x80; length];
            assert_eq!(cstring_length(&bytes), None);
            bytes.extend_from_slice(&[0, 1, 0, 0, 0x80, 0, 0, 0, 1]);
            assert_eq!(cstring_length(&bytes), Some(length + 1));
        }
    }

    #[test]
    fn depth_ends_at_the_limit() {
        assert_eq!(read(&nested(MAX_DEPTH)), Ok(1));
        assert_eq!(read(&nested(MAX_DEPTH + 1)), Err(ScanError::TooDeep));
        assert_eq!(scan(&nested(1)), Ok(()));
        assert_eq!(scan(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(scan(&nested(MAX_DEPTH + 1)), Err(ScanError::TooDeep));
        assert_eq!(scan(&nested(2_000)), Err(ScanError::TooDeep));
    }

    #[test]
    fn every_kind_that_the_crate_writes_passes() {
        let document = bson::doc! {
            "double": 1.5, "text": "häuser", "document": {"a": {"b": []}}, "array": [1, "x", [null]],
            "binary": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] },
            "id": bson::oid::ObjectId::new(), "yes": true, "date": bson::DateTime::now(),
            "null": null, "int": 7_i32, "long": 7_i64,
            "regex": bson::Regex { pattern: bson::cstr!("a.*").into(), options: bson::cstr!("i").into() },
            "code": bson::Bson::JavaScriptCode("x".into()),
            "scope": bson::Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: "y".into(), scope: bson::doc! {"z": 1},
            }),
            "time": bson::Timestamp { time: 1, increment: 2 },
            "symbol": bson::Bson::Symbol("s".into()), "min": bson::Bson::MinKey,
            "max": bson::Bson::MaxKey, "undefined": bson::Bson::Undefined,
            "decimal": "1.5".parse::<bson::Decimal128>().unwrap(),
        };
        let bytes = document.to_vec().unwrap();
        assert_eq!(scan(&bytes), Ok(()));
        for cut in 0..bytes.len() {
            assert!(scan(&bytes[..cut]).is_err(), "cut at {cut}");
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(read(&bytes), Ok(document.len()));
    }

    #[test]
    fn broken_documents_get_the_texts_of_the_original() {
        for (bytes, text) in [
            (&[][..], "Document is corrupted"),
            (&[4, 0, 0, 0], "Document is corrupted"),
            (&[5, 0, 0, 0, 1], "Document is corrupted"),
            (&[5, 0, 0, 0, 0, 0], "Document is corrupted"),
            (
                &[8, 0, 0, 0, 0x55, b'a', 0, 0],
                "Unknown element kind (0x55)",
            ),
            (
                &[13, 0, 0, 0, 2, b'a', 0, 9, 0, 0, 0, 0, 0],
                "Document is corrupted",
            ),
            (
                &[12, 0, 0, 0, 2, b'a', 0, 0, 0, 0, 0, 0],
                "Document is corrupted",
            ),
            (
                &[13, 0, 0, 0, 5, b'a', 0, 255, 255, 255, 255, 0, 0],
                "Document is corrupted",
            ),
        ] {
            assert_eq!(scan(bytes).unwrap_err().to_string(), text, "{bytes:?}");
            assert_eq!(read(bytes).unwrap_err().to_string(), text, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_decoded_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 5..200),
        ) {
            let length = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            *bytes.last_mut().unwrap() = 0;
            prop_assert_eq!(scan(&bytes), read(&bytes).map(drop));
            if scan(&bytes).is_ok() {
                drop(bson::Document::from_reader(bytes.as_slice()));
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(index in 0_usize..200, value: u8) {
            let mut bytes = bson::doc! {
                "servicemethod": "Echo.Forward", "seq": 7_i64, "more": {"list": [1, {"a": "b"}]},
            }.to_vec().unwrap();
            let index = index % bytes.len();
            bytes[index] = value;
            prop_assert_eq!(scan(&bytes), read(&bytes).map(drop));
            if scan(&bytes).is_ok() {
                drop(bson::Document::from_reader(bytes.as_slice()));
            }
        }
    }
}
