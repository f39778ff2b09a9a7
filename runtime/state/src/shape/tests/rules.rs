//! Every rule, with types as programs have them: what is allowed can be read, and of what is refused something cannot.

use crate::shape::{Comparison, Shape, compare};
use crate::snapshot::{decode, encode};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Debug;

fn compared<Old: DeserializeOwned, New: DeserializeOwned>() -> Comparison {
    compare(&Shape::of::<Old>(), &Shape::of::<New>())
}

fn reread<Old: Serialize, New: DeserializeOwned>(old: &Old) -> Option<New> {
    decode(&encode(old).unwrap()).ok()
}

/// What was written as `Old` is read as `New`, and shapes say so.
#[track_caller]
fn allowed<Old, New>(pairs: &[(Old, New)], note: &str)
where
    Old: Serialize + DeserializeOwned,
    New: DeserializeOwned + PartialEq + Debug,
{
    let found = compared::<Old, New>();
    assert_eq!((found.refused, found.unproven), (vec![], vec![]));
    let notes: Vec<_> = found.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(notes.join("; "), note);
    for (old, new) in pairs {
        assert_eq!(reread::<_, New>(old).as_ref(), Some(new));
    }
}

/// Something that was written as `Old` cannot be read as `New`, and shapes say so.
#[track_caller]
fn refused<Old: Serialize + DeserializeOwned, New: DeserializeOwned>(old: &[Old], why: &str) {
    let found = compared::<Old, New>();
    let text: Vec<_> = found.refused.iter().map(ToString::to_string).collect();
    assert!(text.join("; ").contains(why), "{found:?}");
    let read = old.iter().filter(|old| reread::<_, New>(old).is_some()).count();
    assert!(read < old.len(), "everything can be read");
}

macro_rules! record {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct $name { $($(#[$attribute])* $field: $type),* }
    };
}

record!(V1 { id: u32, name: String, rate: f32, tags: Vec<u8> });
record!(Reordered { tags: Vec<u8>, rate: f32, name: String, id: u32 });
record!(Removed { id: u32, rate: f32 });
record!(Added { id: u32, name: String, rate: f32, tags: Vec<u8>, #[serde(default)] count: u64, more: Option<String> });
record!(AddedRequired { id: u32, name: String, rate: f32, tags: Vec<u8>, count: u64 });
record!(Wider { id: i64, name: Option<String>, rate: f64, tags: Vec<u32> });
record!(Renamed { number: u32, name: String, rate: f32, tags: Vec<u8> });
record!(Aliased { #[serde(alias = "id")] number: u32, name: String, rate: f32, tags: Vec<u8> });
record!(Narrower { id: u16, name: String, rate: f32, tags: Vec<u8> });
record!(Other { id: String, name: String, rate: f32, tags: Vec<u8> });

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    id: u32,
    rate: f32,
}

fn v1() -> V1 {
    V1 {
        id: 70_000,
        name: "a".into(),
        rate: 1.5,
        tags: vec![1, 255],
    }
}

#[test]
fn fields_move_go_come_and_widen() {
    let (id, name, rate, tags) = (70_000, "a".to_owned(), 1.5, vec![1, 255]);
    let reordered = Reordered {
        id,
        name: name.clone(),
        rate,
        tags: tags.clone(),
    };
    allowed(&[(v1(), reordered)], "");
    allowed(
        &[(v1(), Removed { id, rate })],
        ".name is not there any more; .tags is not there any more",
    );
    let added = Added {
        id,
        name: name.clone(),
        rate,
        tags: tags.clone(),
        ..Added::default()
    };
    allowed(
        &[(v1(), added)],
        ".count is new, u64 that may be missing; .more is new, Option<String> that may be missing",
    );
    let wider = Wider {
        id: i64::from(id),
        name: Some(name.clone()),
        rate: 1.5,
        tags: vec![1, 255],
    };
    allowed(
        &[(v1(), wider)],
        ".id is i64 and was u32; .name is Option<String> and was String; .rate is f64 and was f32; \
         .tags[] is u32 and was u8",
    );
    let number = id;
    allowed(
        &[(
            v1(),
            Aliased {
                number,
                name,
                rate,
                tags,
            },
        )],
        ".id is called number and read under its old name too",
    );
}

#[test]
fn fields_that_are_needed_renamed_or_smaller_are_refused() {
    refused::<V1, AddedRequired>(
        &[v1()],
        ".count is new, and no stored value has it: give it a default",
    );
    refused::<V1, Renamed>(&[v1()], ".number is new, and no stored value has it");
    refused::<V1, Narrower>(
        &[v1()],
        ".id is u16 and was u32, which holds more: make it u32 again",
    );
    refused::<V1, Other>(&[v1()], ".id is String and was u32");
    refused::<V1, Closed>(
        &[v1()],
        ".name is not there any more, and Closed refuses fields that it does not know",
    );
    refused::<Wider, V1>(
        &[Wider {
            id: -1,
            ..Wider::default()
        }],
        ".name is String and was Option<String>",
    );
    refused::<(u8, u8), (u8, u8, u8)>(&[(1, 2)], "the value has 3 parts and had 2");
    refused::<Vec<Option<u8>>, Vec<u8>>(&[vec![None]], "[] is u8 and was Option<u8>");
    refused::<BTreeMap<String, V1>, BTreeMap<String, Narrower>>(
        &[[("k".to_owned(), v1())].into()],
        "{}.id is u16",
    );
    refused::<BTreeMap<u64, u8>, BTreeMap<u32, u8>>(&[[(u64::MAX, 1)].into()], "{key} is u32 and was u64");
    refused::<V1, Vec<u8>>(&[v1()], "the value is list of u8 and was struct V1");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum E1 {
    Unit,
    One(u8),
    Two(u8, i8),
    Named { a: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum MoreVariants {
    First,
    #[serde(alias = "Unit")]
    Nothing,
    Named {
        #[serde(default)]
        b: bool,
        a: u64,
    },
    Two(u16, i8),
    One(Option<u8>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum FewerVariants {
    Unit,
    Two(u8, i8),
    Named { a: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum RenamedVariant {
    Nothing,
    One(u8),
    Two(u8, i8),
    Named { a: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OtherPayload {
    Unit(u8),
    One(u8),
    Two(u8, i8),
    Named { a: u32, b: u32 },
}

#[test]
fn variants_come_and_are_aliased_and_do_not_go() {
    let all = [E1::Unit, E1::One(1), E1::Two(2, -2), E1::Named { a: 70_000 }];
    let read = [
        MoreVariants::Nothing,
        MoreVariants::One(Some(1)),
        MoreVariants::Two(2, -2),
        MoreVariants::Named { b: false, a: 70_000 },
    ];
    let pairs: Vec<_> = all.iter().cloned().zip(read).collect();
    allowed(
        &pairs,
        "::One is Option<u8> and was u8; ::Two.0 is u16 and was u8; ::Named.a is u64 and was u32; \
         ::Named.b is new, bool that may be missing; ::First is a new variant",
    );
    refused::<E1, FewerVariants>(&all, "::One is not a variant any more");
    refused::<E1, RenamedVariant>(
        &all,
        "::Unit is not a variant any more: keep it, or, if it was renamed",
    );
    refused::<E1, OtherPayload>(&all, "::Unit holds one value and held nothing");
    refused::<E1, OtherPayload>(&all, "::Named.b is new, and no stored value has it");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree<T> {
    value: T,
    children: Vec<Tree<T>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unrolled {
    value: u8,
    children: Vec<Tree<u8>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UnrolledNarrow {
    value: u64,
    children: Vec<Tree<u8>>,
}

#[test]
fn types_that_contain_themselves_are_followed() {
    let tree = Tree {
        value: 1_u8,
        children: vec![Tree {
            value: 2,
            children: vec![],
        }],
    };
    let wide = Tree {
        value: 1_u32,
        children: vec![Tree {
            value: 2,
            children: vec![],
        }],
    };
    allowed(&[(tree.clone(), wide)], ".value is u32 and was u8");
    let unrolled = Unrolled {
        value: 1,
        children: tree.children.clone(),
    };
    allowed(&[(tree.clone(), unrolled.clone())], "");
    allowed(&[(unrolled, tree)], "");
    let deep = Tree {
        value: 1_u32,
        children: vec![Tree {
            value: 300,
            children: vec![],
        }],
    };
    refused::<Tree<u32>, UnrolledNarrow>(&[deep], ".children[].value is u8 and was u32");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tagged {
    known: u32,
    kind: Untagged,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[test]
fn what_cannot_be_traced_is_doubted_and_the_rest_compared() {
    let found = compared::<Tagged, Tagged>();
    assert!(found.is_readable());
    let doubt = found.unproven[0].to_string();
    assert!(doubt.starts_with(".kind cannot be compared: "), "{doubt}");
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Narrow {
        known: u16,
        kind: Untagged,
    }
    assert_eq!(compared::<Tagged, Narrow>().refused.len(), 1);
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct WithDefault {
        #[serde(default)]
        a: u8,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Without {
        a: u8,
    }
    let found = compared::<WithDefault, Without>();
    assert_eq!((found.refused.len(), found.unproven.len()), (0, 1));
}

/// Both ends of a number, read as another: allowed exactly if both are the same there.
#[track_caller]
fn number<From, To>(ends: [From; 2])
where
    From: Serialize + DeserializeOwned + ToString,
    To: DeserializeOwned + ToString,
{
    let found = compared::<From, To>();
    let mut ends = ends.iter();
    let same = ends.all(|end| reread::<_, To>(end).is_some_and(|read| read.to_string() == end.to_string()));
    assert_eq!(found.is_readable(), same, "{found:?}");
}

macro_rules! numbers {
    ($($from:ident to [$($to:ident)*];)*) => {
        $($(number::<$from, $to>([$from::MIN, $from::MAX]);)*)*
    };
}

#[test]
fn numbers_widen_and_do_not_narrow() {
    numbers! {
        u8 to [u8 u16 u32 u64 u128 i8 i16 i32 i64 i128];
        u16 to [u8 u16 u32 u64 u128 i8 i16 i32 i64 i128];
        u32 to [u8 u16 u32 u64 u128 i8 i16 i32 i64 i128];
        u64 to [u8 u16 u32 u64 u128 i8 i16 i32 i64 i128];
        i8 to [u8 u16 u32 u64 i8 i16 i32 i64 i128];
        i16 to [u8 u16 u32 u64 i8 i16 i32 i64 i128];
        i32 to [u8 u16 u32 u64 i8 i16 i32 i64 i128];
        i64 to [u8 u16 u32 u64 i8 i16 i32 i64 i128];
        i128 to [u8 u16 u32 u64 i8 i16 i32 i64 i128];
        u128 to [u8 u16 u32 u64 u128 i8 i16 i32 i64];
    }
    for found in [
        compared::<f64, f32>(),
        compared::<u32, f64>(),
        compared::<i8, u128>(),
        compared::<u128, i128>(),
        compared::<bool, u8>(),
        compared::<char, String>(),
        compared::<Vec<u8>, (u8, u8)>(),
        compared::<(), Vec<u8>>(),
    ] {
        assert_eq!(found.refused.len(), 1, "{found:?}");
    }
}

proptest! {
    #[test]
    fn every_value_is_read_after_an_allowed_change(
        (id, name, rate, tags) in any::<(u32, String, f32, Vec<u8>)>(),
    ) {
        let old = V1 { id, name, rate, tags };
        let wide: Wider = reread(&old).unwrap();
        prop_assert_eq!(wide.id, i64::from(id));
        prop_assert_eq!(wide.rate.to_bits(), f64::from(rate).to_bits());
        prop_assert_eq!(wide.name.as_ref(), Some(&old.name));
        prop_assert!(wide.tags.iter().copied().eq(old.tags.iter().copied().map(u32::from)));
        let added: Added = reread(&old).unwrap();
        prop_assert_eq!((added.id, added.count, added.more), (id, 0, None));
        let removed: Removed = reread(&old).unwrap();
        prop_assert_eq!(removed.id, id);
        let aliased: Aliased = reread(&old).unwrap();
        prop_assert_eq!(aliased.number, id);
    }
}
