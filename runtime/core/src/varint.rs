//! Numbers of one to ten bytes: LEB128, seven bits a byte, the lowest first.

/// The most bytes a number takes.
const MAX_BYTES: u32 = 10;

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a number byte by byte.
///
/// # Errors
/// What `next` fails with, and `None` when the bytes are no number of 64 bits.
pub fn read<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<u64>, E> {
    let mut number = 0_u64;
    for place in 0..MAX_BYTES {
        let byte = next()?;
        let bits = u64::from(byte & 0x7f);
        if place == MAX_BYTES - 1 && bits > 1 {
            return Ok(None);
        }
        number |= bits << (7 * place);
        if byte < 0x80 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Takes a number from the front of `bytes`; `None` when there is none.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    read(|| {
        let (first, rest) = bytes.split_first().ok_or(())?;
        *bytes = rest;
        Ok::<_, ()>(*first)
    })
    .ok()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_bytes() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(out, bytes);
        }
        assert_eq!(take(&mut &[0x80][..]), None);
        assert_eq!(
            take(&mut &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2][..]),
            None
        );
        assert_eq!(take(&mut &[0x80; 11][..]), None);
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut out = Vec::new();
            for number in &numbers {
                put(&mut out, *number >> (*number % 64));
            }
            let mut rest = &out[..];
            for number in &numbers {
                prop_assert_eq!(take(&mut rest), Some(*number >> (*number % 64)));
            }
            prop_assert!(rest.is_empty());
        }
    }
}
