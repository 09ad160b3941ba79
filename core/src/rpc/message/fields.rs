//! The elements of a document, and the leniency with which the original takes a value of one kind
//! for a field of another.
//!
//! Invariant: reading borrows; nothing is copied, nothing recursed into, nothing panics. The
//! document has passed [`crate::rpc::frame::scan`]; one that has not merely ends early.

use crate::rpc::frame::{Element, cstring_length, declared_length};

/// One value, not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// BSON's kind byte.
    pub kind: u8,
    /// The value's bytes, as they stand on the wire.
    pub bytes: &'a [u8],
}

/// The elements of a document in their order.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The elements of the scanned `document`.
    pub fn of(document: &'a [u8]) -> Self {
        Self {
            rest: document.get(4..).unwrap_or_default(),
        }
    }

    fn step(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let (kind, rest) = self.rest.split_first()?;
        let name_length = cstring_length(rest).filter(|_| *kind != 0)?;
        let (name, rest) = rest.split_at_checked(name_length)?;
        let length = value_length(*kind, rest)?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        let name = name.get(..name_length - 1)?;
        Some((name, Value { kind: *kind, bytes }))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_none() {
            self.rest = &[];
        }
        step
    }
}

impl<'a> Value<'a> {
    pub(super) fn of(element: &Element<'a>) -> Self {
        Self {
            kind: element.kind,
            bytes: element.value,
        }
    }

    /// An integer field: any number, cut towards zero, or a bool.
    pub fn integer(self) -> Option<i64> {
        match self.kind {
            0x10 => Some(i64::from(i32::from_le_bytes(*self.bytes.first_chunk()?))),
            0x12 => Some(i64::from_le_bytes(*self.bytes.first_chunk()?)),
            0x01 => {
                let number = f64::from_le_bytes(*self.bytes.first_chunk()?);
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "doubles are cut towards zero, as the original does"
                )]
                Some(number as i64)
            }
            0x08 => Some(i64::from(*self.bytes.first()? == 1)),
            _ => None,
        }
    }

    /// A bool field: a bool, or any number that is not zero.
    pub fn boolean(self) -> Option<bool> {
        match self.kind {
            0x08 => Some(*self.bytes.first()? == 1),
            0x01 => Some(f64::from_le_bytes(*self.bytes.first_chunk()?) != 0.0),
            0x10 | 0x12 => self.integer().map(|number| number != 0),
            _ => None,
        }
    }

    /// A string or binary field: either, or a symbol. Whether it is UTF-8 is not looked at.
    pub fn text(self) -> Option<&'a [u8]> {
        match self.kind {
            0x02 | 0x0e => self.bytes.get(4..self.bytes.len().checked_sub(1)?),
            0x05 => match *self.bytes.get(4)? {
                0x00 => self.bytes.get(5..),
                // The old generic subtype repeats the length inside.
                0x02 => self.bytes.get(9..),
                _ => None,
            },
            _ => None,
        }
    }

    /// A field that is an array: a document whose names say nothing.
    pub fn array(self) -> Option<&'a [u8]> {
        (self.kind == 0x04).then_some(self.bytes)
    }

    /// A field that is a document.
    pub fn document(self) -> Option<&'a [u8]> {
        (self.kind == 0x03).then_some(self.bytes)
    }
}

/// How long a value is; [`crate::rpc::frame::scan`] has said that it is all there.
fn value_length(kind: u8, value: &[u8]) -> Option<usize> {
    let prefix = || {
        let length = i32::from_le_bytes(*value.first_chunk::<4>()?);
        usize::try_from(length).ok()
    };
    match kind {
        0x06 | 0x0a | 0x7f | 0xff => Some(0),
        0x08 => Some(1),
        0x10 => Some(4),
        0x01 | 0x09 | 0x11 | 0x12 => Some(8),
        0x07 => Some(12),
        0x13 => Some(16),
        0x02 | 0x0d | 0x0e => prefix()?.checked_add(4),
        0x05 => prefix()?.checked_add(5),
        0x0c => prefix()?.checked_add(16),
        0x03 | 0x04 => declared_length(value),
        0x0f => prefix().filter(|length| *length >= 4),
        0x0b => {
            let first = cstring_length(value)?;
            Some(first + cstring_length(value.get(first..)?)?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;
    use bson::{Binary, Bson, doc};

    use super::*;

    fn value_of(value: impl Into<Bson>, read: impl Fn(Value<'_>)) {
        let bytes = doc! { "a": value.into() }.to_vec().unwrap();
        let (name, value) = Fields::of(&bytes).next().unwrap();
        assert_eq!(name, b"a");
        read(value);
    }

    #[test]
    fn numbers_and_bools_interchange() {
        let table: [(Bson, Option<i64>, Option<bool>); 8] = [
            (Bson::Int32(-7), Some(-7), Some(true)),
            (Bson::Int64(1 << 40), Some(1 << 40), Some(true)),
            (Bson::Double(-2.9), Some(-2), Some(true)),
            (Bson::Double(0.0), Some(0), Some(false)),
            (Bson::Boolean(true), Some(1), Some(true)),
            (Bson::Boolean(false), Some(0), Some(false)),
            (Bson::String("1".to_owned()), None, None),
            (Bson::Null, None, None),
        ];
        for (value, integer, boolean) in table {
            value_of(value.clone(), |read| {
                assert_eq!(read.integer(), integer, "{value}");
                assert_eq!(read.boolean(), boolean, "{value}");
            });
        }
    }

    #[test]
    fn strings_and_binaries_interchange() {
        let binary = |subtype| {
            Bson::Binary(Binary {
                subtype,
                bytes: b"hi".to_vec(),
            })
        };
        let table: [(Bson, Option<&[u8]>); 7] = [
            (Bson::String("hi".to_owned()), Some(b"hi")),
            (Bson::String(String::new()), Some(b"")),
            (Bson::Symbol("hi".to_owned()), Some(b"hi")),
            (binary(BinarySubtype::Generic), Some(b"hi")),
            (binary(BinarySubtype::BinaryOld), Some(b"hi")),
            (binary(BinarySubtype::Md5), None),
            (Bson::Int32(1), None),
        ];
        for (value, text) in table {
            value_of(value.clone(), |read| {
                assert_eq!(read.text(), text, "{value}");
            });
        }
    }

    #[test]
    fn every_kind_is_stepped_over() {
        let bytes = doc! {
            "regex": Bson::RegularExpression(bson::Regex {
                pattern: bson::cstr!("a").into(), options: bson::cstr!("i").into(),
            }),
            "scope": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: "y".into(), scope: doc! {"z": 1},
            }),
            "oid": bson::oid::ObjectId::new(), "null": Bson::Null, "list": [1, 2],
            "last": 9,
        }
        .to_vec()
        .unwrap();
        let (name, value) = Fields::of(&bytes).last().unwrap();
        assert_eq!((name, value.integer()), (&b"last"[..], Some(9)));
        assert_eq!(Fields::of(&bytes).count(), 6);
    }
}
