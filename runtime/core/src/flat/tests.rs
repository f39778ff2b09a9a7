//! Values come back, and other bytes do not; types that cannot be read that way are known.

use super::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    Newtype(Box<str>),
    Tuple(i8, (u16, i128)),
    Struct { at: i64, on: Option<bool> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u128);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    user: u32,
    kinds: Vec<Kind>,
    counts: BTreeMap<String, Vec<u64>>,
    wrapped: Wrapped,
    letter: char,
    nothing: (Nothing, ()),
    amounts: [f64; 2],
    more: Option<Box<Event>>,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        ".{0,9}".prop_map(|text| Kind::Newtype(text.into())),
        any::<(i8, (u16, i128))>().prop_map(|(a, b)| Kind::Tuple(a, b)),
        any::<(i64, Option<bool>)>().prop_map(|(at, on)| Kind::Struct { at, on }),
    ]
}

fn leaf() -> impl Strategy<Value = Event> {
    let counts = prop::collection::btree_map(".{0,5}", prop::collection::vec(any::<u64>(), 0..4), 0..4);
    let parts = (
        any::<u32>(),
        prop::collection::vec(kind(), 0..5),
        counts,
        any::<u128>(),
        any::<char>(),
        any::<[i32; 2]>(),
    );
    parts.prop_map(|(user, kinds, counts, wrapped, letter, amounts)| Event {
        user,
        kinds,
        counts,
        wrapped: Wrapped(wrapped),
        letter,
        nothing: (Nothing, ()),
        amounts: amounts.map(f64::from),
        more: None,
    })
}

fn event() -> impl Strategy<Value = Event> {
    (leaf(), prop::option::of(leaf())).prop_map(|(event, more)| Event {
        more: more.map(Box::new),
        ..event
    })
}

fn written<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.serialize(&mut Writer(&mut bytes)).unwrap();
    bytes
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), FlatError> {
    let mut reader = Reader(bytes);
    let value = T::deserialize(&mut reader)?;
    Ok((value, reader.0.len()))
}

proptest! {
    #[test]
    fn values_come_back_and_what_is_cut_off_is_refused(event in event(), cut: prop::sample::Index) {
        let bytes = written(&event);
        prop_assert_eq!(read::<Event>(&bytes).unwrap(), (event, 0));
        prop_assert!(read::<Event>(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((event, left)) = read::<Event>(&bytes) {
            prop_assert_eq!(written(&event), &bytes[..bytes.len() - left]);
        }
    }
}

#[test]
fn values_have_the_bytes_that_the_documentation_says() {
    assert_eq!(written(&0x0102_0304_u32), [4, 3, 2, 1]);
    assert_eq!(written(&(true, 'a', -1_i16)), [1, 97, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(written(&"ab"), [2, 0, 0, 0, 97, 98]);
    assert_eq!(written(&vec![7_u8, 8]), [2, 0, 0, 0, 7, 8]);
    assert_eq!(written(&[7_u8, 8]), [7, 8]);
    assert_eq!(written(&(None::<u8>, Some(3_u8))), [0, 1, 3]);
    assert_eq!(written(&Kind::Newtype("x".into())), [1, 1, 0, 0, 0, 120]);
    assert_eq!(written(&HashMap::from([(1_u8, 2_u8)])), [1, 0, 0, 0, 1, 2]);
}

#[test]
fn bytes_that_no_value_has_are_refused() {
    assert!(read::<bool>(&[2]).is_err());
    assert!(read::<Option<u8>>(&[2, 0]).is_err());
    assert!(read::<char>(&0xD800_u32.to_le_bytes()).is_err());
    assert!(read::<String>(&[1, 0, 0, 0, 0xff]).is_err());
    assert!(read::<Kind>(&[4]).is_err());
    // A number of elements that the bytes do not have takes no memory.
    assert!(read::<Vec<u64>>(&[0xff; 12]).is_err());
}

#[test]
fn elements_are_counted_when_nobody_knows_how_many_they_are() {
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq((0..9_u8).filter(|n| n % 2 == 1))
        }
    }
    assert_eq!(read::<Vec<u8>>(&written(&Odd)).unwrap(), (vec![1, 3, 5, 7], 0));
}

/// One that asks what comes next, in the last place where it can be.
#[derive(Serialize, Deserialize)]
enum Late {
    Never,
    Rarely { choice: Option<Vec<Choice>> },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Choice {
    Number(u64),
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Flattened {
    id: u64,
    #[serde(flatten)]
    more: HashMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { value: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
#[derive(Clone, Copy)]
struct Picky(u32);

impl TryFrom<u32> for Picky {
    type Error = String;
    fn try_from(number: u32) -> Result<Self, String> {
        (number > 9)
            .then_some(Self(number))
            .ok_or_else(|| "too small".to_owned())
    }
}

impl From<Picky> for u32 {
    fn from(picky: Picky) -> u32 {
        picky.0
    }
}

#[derive(Serialize, Deserialize)]
struct Tree {
    name: String,
    children: Vec<Tree>,
    left: Option<Box<Tree>>,
}

#[test]
fn types_that_can_be_read_are_told_from_those_that_cannot() {
    assert!(reads_flat::<u64>());
    assert!(reads_flat::<(u64, String, Option<[u8; 4]>)>());
    assert!(reads_flat::<Event>(), "all of its variants");
    assert!(reads_flat::<(NonZeroU16, std::time::Duration, std::net::IpAddr)>());
    assert!(reads_flat::<crate::str::Str>());
    assert!(reads_flat::<uuid::Uuid>());
    assert!(!reads_flat::<Choice>());
    assert!(!reads_flat::<Late>(), "in a variant that is not the first");
    assert!(!reads_flat::<Flattened>());
    assert!(!reads_flat::<Tagged>());
    assert!(!reads_flat::<serde_json::Value>());
    assert!(!reads_flat::<Picky>(), "nobody knows");
}

#[test]
fn looking_at_a_type_that_holds_itself_comes_to_an_end() {
    assert!(reads_flat::<Tree>());
    #[derive(Serialize, Deserialize)]
    enum Sum {
        Of(Box<Sum>, Box<Sum>),
        Number(u64),
    }
    // Variants are taken in turn, so that this one goes ever deeper: it is given up, and travels with names.
    assert!(!reads_flat::<Sum>());
}
