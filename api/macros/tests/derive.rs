//! Keys made by `#[derive(StableKey)]`.

use hurtig_core::key::{KeyDecodeError, OwnedKey, StableKey as _, decode_exact, shape_fingerprint, shape_of};
use hurtig_core::str::{Block, Str};
use hurtig_macros::StableKey;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, StableKey)]
#[stable_key(crate = "hurtig_core::key")]
struct User {
    id: u64,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, StableKey)]
#[stable_key(crate = "hurtig_core::key")]
struct Pair<A, B: Copy>(A, B)
where
    A: std::fmt::Debug;

#[derive(Debug, Clone, PartialEq, Eq, StableKey)]
#[stable_key(crate = "hurtig_core::key")]
struct Unit;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, StableKey)]
#[stable_key(crate = "hurtig_core::key")]
enum Event<T, const N: usize> {
    Start,
    At(i32, T),
    Named { r#type: [u8; N], out: Option<char> },
}

#[derive(Clone, PartialEq, Eq, StableKey)]
#[stable_key(crate = "hurtig_core::key")]
struct Borrowed<'a> {
    id: u64,
    name: &'a str,
}

fn bytes_of<K: hurtig_core::key::StableKey>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

fn check<K: OwnedKey + std::fmt::Debug>(key: K) {
    assert_eq!(decode_exact::<K>(&bytes_of(&key)).as_ref(), Ok(&key));
    assert_eq!(key.clone().detach(), key);
}

#[test]
fn keys_round_trip() {
    check(User {
        id: 7,
        name: "Ada".into(),
    });
    check(Pair(String::from("a"), 1_u8));
    check(Unit);
    check(Event::<u8, 2>::Start);
    check(Event::<String, 2>::At(-1, "x".into()));
    check(Event::<u8, 2>::Named {
        r#type: [1, 2],
        out: Some('z'),
    });
}

#[test]
fn bytes_are_the_fields_in_order() {
    assert_eq!(
        bytes_of(&User {
            id: 1,
            name: "a".into()
        }),
        [0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0]
    );
    assert!(bytes_of(&Unit).is_empty());
    assert_eq!(bytes_of(&Event::<u8, 1>::Start), [0]);
    assert_eq!(bytes_of(&Event::<u8, 1>::At(0, 9)), [1, 0x80, 0, 0, 0, 9]);
    assert_eq!(
        bytes_of(&Event::<u8, 1>::Named {
            r#type: [5],
            out: None
        }),
        [2, 5, 0]
    );
}

#[test]
fn shapes_name_everything() {
    assert_eq!(shape_of::<User>(), "struct User{id:u64,name:str}");
    assert_eq!(shape_of::<Pair<bool, u8>>(), "struct Pair(bool,u8)");
    assert_eq!(shape_of::<Unit>(), "struct Unit");
    assert_eq!(
        shape_of::<Event<User, 3>>(),
        "enum Event{Start,At(i32,struct User{id:u64,name:str}),Named{type:[u8;3],out:option<char>}}"
    );
    assert_ne!(
        shape_fingerprint::<Event<u8, 3>>(),
        shape_fingerprint::<Event<u8, 4>>()
    );
}

#[test]
fn a_borrowed_key_hashes_as_its_fields_do() {
    let borrowed = Borrowed { id: 7, name: "Ada" };
    assert_eq!(
        borrowed.stable_hash(),
        User {
            id: 7,
            name: "Ada".into()
        }
        .stable_hash()
    );
    assert_eq!(borrowed.stable_hash(), (7_u64, "Ada").stable_hash());
}

#[test]
fn bytes_sort_as_keys_do() {
    let mut keys = vec![
        Event::<u8, 1>::Named {
            r#type: [1],
            out: Some('a'),
        },
        Event::At(3, 0),
        Event::Named {
            r#type: [1],
            out: None,
        },
        Event::At(-3, 9),
        Event::Start,
    ];
    let mut sorted_by_bytes = keys.clone();
    keys.sort();
    sorted_by_bytes.sort_by_key(bytes_of);
    assert_eq!(keys, sorted_by_bytes);
}

#[test]
fn a_tag_without_a_variant_is_damage() {
    let expected = KeyDecodeError::BadTag {
        type_name: "Event",
        found: 3,
        max: 2,
    };
    assert_eq!(decode_exact::<Event<u8, 1>>(&[3]), Err(expected));
}

#[test]
fn detach_reaches_the_fields() {
    let block = Block::from(vec![b'a'; 10_000]);
    let long = Str::from_block(&block, 0..30).unwrap();
    let Event::At(_, detached) = Event::<Str, 1>::At(1, long).detach() else {
        panic!("the same variant");
    };
    assert!(detached.held_bytes() < 100);
}
