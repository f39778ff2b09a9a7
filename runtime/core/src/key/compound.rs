//! Keys made of keys: tuples, arrays and `Option`.

use super::{KeyDecodeError, KeyWriter, OwnedKey, StableKey, take_tag};

macro_rules! tuple_keys {
    ($($first:ident $($rest:ident)*;)*) => {$(
        impl<$first: StableKey, $($rest: StableKey),*> StableKey for ($first, $($rest,)*) {
            #[inline]
            #[allow(non_snake_case, reason = "one name serves as type and variable")]
            fn encode_to<Out: KeyWriter>(&self, out: &mut Out) {
                let ($first, $($rest,)*) = self;
                $first.encode_to(out);
                $($rest.encode_to(out);)*
            }

            fn shape(out: &mut String) {
                out.push('(');
                $first::shape(out);
                $(
                    out.push(',');
                    $rest::shape(out);
                )*
                out.push(')');
            }
        }

        impl<$first: OwnedKey, $($rest: OwnedKey),*> OwnedKey for ($first, $($rest,)*) {
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
                Ok(($first::decode(input)?, $($rest::decode(input)?,)*))
            }

            #[inline]
            #[allow(non_snake_case, reason = "one name serves as type and variable")]
            fn detach(self) -> Self {
                let ($first, $($rest,)*) = self;
                ($first.detach(), $($rest.detach(),)*)
            }
        }
    )*};
}

tuple_keys! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}

impl<K: StableKey, const N: usize> StableKey for [K; N] {
    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        for part in self {
            part.encode_to(out);
        }
    }

    fn shape(out: &mut String) {
        out.push('[');
        K::shape(out);
        out.push(';');
        out.push_str(&N.to_string());
        out.push(']');
    }
}

impl<K: OwnedKey, const N: usize> OwnedKey for [K; N] {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        let mut parts = Vec::with_capacity(N);
        for _ in 0..N {
            parts.push(K::decode(input)?);
        }
        match parts.try_into() {
            Ok(array) => Ok(array),
            Err(_) => unreachable!("N parts were read for an array of N"),
        }
    }

    #[inline]
    fn detach(self) -> Self {
        self.map(K::detach)
    }
}

impl<K: StableKey> StableKey for Option<K> {
    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        match self {
            None => out.put(&[0]),
            Some(key) => {
                out.put(&[1]);
                key.encode_to(out);
            }
        }
    }

    fn shape(out: &mut String) {
        out.push_str("option<");
        K::shape(out);
        out.push('>');
    }
}

impl<K: OwnedKey> OwnedKey for Option<K> {
    #[inline]
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        match take_tag(input, "option", 1)? {
            0 => Ok(None),
            _ => K::decode(input).map(Some),
        }
    }

    #[inline]
    fn detach(self) -> Self {
        self.map(K::detach)
    }
}
