//! Keys of a fixed width: integers, `bool`, `char`, `Uuid` and `()`.

use uuid::Uuid;

use super::{KeyDecodeError, KeyWriter, OwnedKey, StableKey, hash_encoding, hash_int, take, take_tag};

/// The hash of an integer of at most 64 bits, or of a wider one.
macro_rules! integer_hash {
    (word, $value:expr, $extended:ty) => {
        hash_int(*$value as $extended as u64)
    };
    (wide, $value:expr, $extended:ty) => {
        hash_encoding($value)
    };
}

macro_rules! unsigned_keys {
    ($($int:ty, $hash:ident;)*) => {$(
        impl StableKey for $int {
            const ARITHMETIC: bool = size_of::<$int>() <= 8;

            #[inline]
            fn encode_to<W: KeyWriter>(&self, out: &mut W) {
                out.put(&self.to_be_bytes());
            }

            fn shape(out: &mut String) {
                out.push_str(stringify!($int));
            }

            #[inline]
            fn stable_hash(&self) -> u64 {
                integer_hash!($hash, self, $int)
            }
        }

        impl OwnedKey for $int {
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
                take(input, stringify!($int)).map(<$int>::from_be_bytes)
            }
        }
    )*};
}

/// Signed integers, with their sign bit flipped so that negative ones sort first.
macro_rules! signed_keys {
    ($($int:ty, $extended:ty, $hash:ident;)*) => {$(
        impl StableKey for $int {
            const ARITHMETIC: bool = size_of::<$int>() <= 8;

            #[inline]
            fn encode_to<W: KeyWriter>(&self, out: &mut W) {
                out.put(&(self ^ <$int>::MIN).to_be_bytes());
            }

            fn shape(out: &mut String) {
                out.push_str(stringify!($int));
            }

            #[inline]
            fn stable_hash(&self) -> u64 {
                integer_hash!($hash, self, $extended)
            }
        }

        impl OwnedKey for $int {
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
                take(input, stringify!($int)).map(|bytes| <$int>::from_be_bytes(bytes) ^ <$int>::MIN)
            }
        }
    )*};
}

/// `usize` and `isize`, which are 64 bits wide in a key on every platform.
macro_rules! platform_keys {
    ($($int:ty, $fixed:ty;)*) => {$(
        impl StableKey for $int {
            const ARITHMETIC: bool = size_of::<$int>() <= 8;

            #[inline]
            fn encode_to<W: KeyWriter>(&self, out: &mut W) {
                (*self as $fixed).encode_to(out);
            }

            fn shape(out: &mut String) {
                <$fixed>::shape(out);
            }

            #[inline]
            fn stable_hash(&self) -> u64 {
                (*self as $fixed).stable_hash()
            }
        }

        impl OwnedKey for $int {
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
                let fixed = <$fixed>::decode(input)?;
                Self::try_from(fixed).map_err(|_| KeyDecodeError::OutOfRange {
                    type_name: stringify!($int),
                    found: i128::from(fixed),
                })
            }
        }
    )*};
}

unsigned_keys! { u8, word; u16, word; u32, word; u64, word; u128, wide; }
signed_keys! { i8, i64, word; i16, i64, word; i32, i64, word; i64, i64, word; i128, i128, wide; }
platform_keys! { usize, u64; isize, i64; }

impl StableKey for bool {
    const ARITHMETIC: bool = true;

    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        out.put(&[u8::from(*self)]);
    }

    fn shape(out: &mut String) {
        out.push_str("bool");
    }

    #[inline]
    fn stable_hash(&self) -> u64 {
        hash_int(u64::from(*self))
    }
}

impl OwnedKey for bool {
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        take_tag(input, "bool", 1).map(|tag| tag == 1)
    }
}

impl StableKey for char {
    const ARITHMETIC: bool = true;

    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        out.put(&u32::from(*self).to_be_bytes());
    }

    fn shape(out: &mut String) {
        out.push_str("char");
    }

    #[inline]
    fn stable_hash(&self) -> u64 {
        hash_int(u64::from(*self))
    }
}

impl OwnedKey for char {
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        let found = take(input, "char").map(u32::from_be_bytes)?;
        char::from_u32(found).ok_or(KeyDecodeError::BadChar { found })
    }
}

impl StableKey for Uuid {
    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        out.put(self.as_bytes());
    }

    fn shape(out: &mut String) {
        out.push_str("uuid");
    }
}

impl OwnedKey for Uuid {
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        take(input, "uuid").map(Self::from_bytes)
    }
}

impl StableKey for () {
    #[inline]
    fn encode_to<W: KeyWriter>(&self, _: &mut W) {}

    fn shape(out: &mut String) {
        out.push_str("()");
    }
}

impl OwnedKey for () {
    #[inline]
    fn decode(_: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        Ok(())
    }
}
