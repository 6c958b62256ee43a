//! Programs as the sequence of numbers that their encoding is made of, so that every field can be changed without
//! naming it, and the result encodes again.

use crate::common::Random;
use serde::de::value::Error;
use serde::ser::{
    Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant, Serializer,
};

/// One number of an encoding.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A bool or a byte.
    Byte(u8),
    /// An unsigned number of up to 64 bits.
    Uint(u64),
    /// A signed number.
    Int(i64),
    /// A float.
    Float(u32),
    /// A string, with its length.
    Text(Vec<u8>),
    /// Length of a list.
    Len(u64),
    /// Variant of an enum.
    Variant(u64),
}

/// The tokens of a value.
pub fn tokens(value: &impl Serialize) -> Vec<Token> {
    let mut recorder = Recorder(Vec::new());
    value.serialize(&mut recorder).unwrap();
    recorder.0
}

/// The postcard encoding of tokens.
pub fn encode(tokens: &[Token]) -> Vec<u8> {
    let mut out = Vec::new();
    let varint = |out: &mut Vec<u8>, mut n: u64| {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    };
    for token in tokens {
        match token {
            Token::Byte(b) => out.push(*b),
            Token::Uint(n) | Token::Len(n) | Token::Variant(n) => varint(&mut out, *n),
            Token::Int(n) => varint(&mut out, ((n << 1) ^ (n >> 63)) as u64),
            Token::Float(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Token::Text(text) => {
                varint(&mut out, text.len() as u64);
                out.extend_from_slice(text);
            }
        }
    }
    out
}

const SIZES: [i64; 24] = [
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    33,
    64,
    1000,
    1 << 20,
    1 << 31,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
    -2,
];

/// Changes one token, or the length of a list together with what it holds.
pub fn mutate(tokens: &mut Vec<Token>, random: &mut Random) {
    let at = random.below(tokens.len());
    let (other, last) = (tokens[random.below(tokens.len())].clone(), at + 1 == tokens.len());
    let pick = |random: &mut Random| SIZES[random.below(SIZES.len())];
    match (&mut tokens[at], other) {
        (Token::Byte(b), _) => *b = [0, 1, 2, 16, 0xff][random.below(5)],
        (Token::Uint(n), Token::Uint(m)) if random.below(3) > 0 => *n = m,
        (Token::Uint(n), _) => {
            *n = match random.below(6) {
                0 => n.wrapping_add(1),
                1 => n.wrapping_sub(1) & 0xffff_ffff,
                2 => [0xff, 0xffff, 0xffff_ffff, u64::MAX][random.below(4)],
                _ => random.below(64) as u64,
            }
        }
        (Token::Int(n), _) => {
            *n = match random.below(8) {
                0 => n.wrapping_add(1),
                1 => n.wrapping_sub(1),
                2 => n.wrapping_mul(2),
                3 => n.wrapping_neg(),
                _ => pick(random),
            }
        }
        (Token::Float(bits), _) => *bits = random.next() as u32,
        (Token::Text(text), _) => text.push(b'x'),
        (Token::Variant(n), _) => *n = random.below(24) as u64,
        (Token::Len(n), _) => match random.below(8) {
            0 => *n = [0, n.wrapping_add(1), 1 << 20, u64::MAX][random.below(4)],
            // Lists of registers and values: one item more or less.
            1..4 if !last => {
                *n = n.wrapping_add(1);
                let copy = tokens[at + 1].clone();
                tokens.insert(at + 1, copy);
            }
            _ if *n > 0 && !last => {
                *n -= 1;
                tokens.remove(at + 1);
            }
            _ => {}
        },
    }
}

struct Recorder(Vec<Token>);

impl Recorder {
    fn push(&mut self, token: Token) -> Result<(), Error> {
        self.0.push(token);
        Ok(())
    }
}

fn unused<T>() -> Result<T, Error> {
    Err(serde::ser::Error::custom("programs hold no such value"))
}

impl Serializer for &mut Recorder {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Self;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_bool(self, v: bool) -> Result<(), Error> {
        self.push(Token::Byte(v.into()))
    }
    fn serialize_u8(self, v: u8) -> Result<(), Error> {
        self.push(Token::Byte(v))
    }
    fn serialize_u16(self, v: u16) -> Result<(), Error> {
        self.push(Token::Uint(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<(), Error> {
        self.push(Token::Uint(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<(), Error> {
        self.push(Token::Uint(v))
    }
    fn serialize_i64(self, v: i64) -> Result<(), Error> {
        self.push(Token::Int(v))
    }
    fn serialize_f32(self, v: f32) -> Result<(), Error> {
        self.push(Token::Float(v.to_bits()))
    }
    fn serialize_str(self, v: &str) -> Result<(), Error> {
        self.push(Token::Text(v.into()))
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Error> {
        self.push(Token::Variant(index.into()))
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.push(Token::Variant(index.into()))?;
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Error> {
        self.push(Token::Len(len.unwrap_or(0) as u64))?;
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.push(Token::Variant(index.into()))?;
        Ok(self)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.push(Token::Variant(index.into()))?;
        Ok(self)
    }

    fn serialize_i8(self, _: i8) -> Result<(), Error> {
        unused()
    }
    fn serialize_i16(self, _: i16) -> Result<(), Error> {
        unused()
    }
    fn serialize_i32(self, _: i32) -> Result<(), Error> {
        unused()
    }
    fn serialize_f64(self, _: f64) -> Result<(), Error> {
        unused()
    }
    fn serialize_char(self, _: char) -> Result<(), Error> {
        unused()
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        unused()
    }
    fn serialize_none(self) -> Result<(), Error> {
        self.push(Token::Byte(0))
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        self.push(Token::Byte(1))?;
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        unused()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        unused()
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<(), Error> {
        unused()
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Impossible<(), Error>, Error> {
        unused()
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Impossible<(), Error>, Error> {
        unused()
    }
}

macro_rules! compound {
    ($($name:ident $method:ident $($key:ty)?;)*) => {$(
        impl $name for &mut Recorder {
            type Ok = ();
            type Error = Error;

            fn $method<T: ?Sized + Serialize>(&mut self, $(_: $key,)? value: &T) -> Result<(), Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )*};
}
compound! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleVariant serialize_field;
    SerializeStruct serialize_field &'static str;
    SerializeStructVariant serialize_field &'static str;
}

#[test]
fn tokens_encode_to_what_they_were_made_of() {
    crate::common::engine_bytes(|writer| {
        for program in crate::corpus::programs(writer) {
            assert_eq!(encode(&tokens(&program)), postcard::to_allocvec(&program).unwrap());
        }
        crate::common::rows_program(writer)
    });
}
