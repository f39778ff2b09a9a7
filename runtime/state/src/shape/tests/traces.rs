//! What a trace finds in types of all kinds.

use crate::shape::*;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

fn scalar(scalar: Scalar) -> Shape {
    Shape::Scalar(scalar)
}

fn list(item: Shape) -> Shape {
    Shape::Seq(Box::new(item))
}

fn option(inner: Shape) -> Shape {
    Shape::Option(Box::new(inner))
}

fn fields(shape: &Shape) -> &[FieldShape] {
    match shape {
        Shape::Struct(shape) => &shape.fields,
        other => panic!("no struct: {other:?}"),
    }
}

fn variants(shape: &Shape) -> &[VariantShape] {
    match shape {
        Shape::Enum(shape) => &shape.variants,
        other => panic!("no enum: {other:?}"),
    }
}

/// Name, shape and presence of each field.
#[track_caller]
fn assert_fields(shape: &Shape, wanted: &[(&str, Shape, Presence)]) {
    let found: Vec<_> = fields(shape)
        .iter()
        .map(|field| (field.name.as_str(), field.shape.clone(), field.presence))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn what_the_standard_library_has() {
    use Scalar::{Bool, Char, F32, F64, I8, I64, I128, U8, U16, U32, U64, Unit};
    const TEXT: Scalar = Scalar::String;
    for (found, wanted) in [
        (Shape::of::<u8>(), scalar(U8)),
        (Shape::of::<usize>(), scalar(U64)),
        (Shape::of::<i128>(), scalar(I128)),
        (Shape::of::<f32>(), scalar(F32)),
        (Shape::of::<()>(), scalar(Unit)),
        (Shape::of::<char>(), scalar(Char)),
        (Shape::of::<String>(), scalar(TEXT)),
        (Shape::of::<Box<str>>(), scalar(TEXT)),
        (Shape::of::<NonZeroU32>(), scalar(U32)),
        (Shape::of::<Option<bool>>(), option(scalar(Bool))),
        (Shape::of::<Vec<Vec<i8>>>(), list(list(scalar(I8)))),
        (Shape::of::<BTreeSet<String>>(), list(scalar(TEXT))),
        (
            Shape::of::<HashMap<u16, f64>>(),
            Shape::Map(Box::new(scalar(U16)), Box::new(scalar(F64))),
        ),
        (
            Shape::of::<(u8, Option<i64>)>(),
            Shape::Tuple(vec![scalar(U8), option(scalar(I64))]),
        ),
        (Shape::of::<[u32; 2]>(), Shape::Tuple(vec![scalar(U32); 2])),
    ] {
        assert_eq!(found, wanted);
    }
    let duration = Shape::of::<Duration>();
    assert_fields(
        &duration,
        &[
            ("secs", scalar(U64), Presence::Required),
            ("nanos", scalar(U32), Presence::Required),
        ],
    );
    let result = Shape::of::<std::result::Result<u8, String>>();
    assert_eq!(variants(&result)[0].names, ["Ok"]);
    assert_eq!(variants(&result)[1].payload, Payload::Newtype(scalar(TEXT)));
    assert_eq!(variants(&Shape::of::<IpAddr>()).len(), 2);
    assert_eq!(Shape::of::<hurtig_core::str::Str>(), scalar(TEXT));
    assert_eq!(Shape::of::<hurtig_core::ids::CheckpointId>(), scalar(U64));
}

#[derive(Serialize, Deserialize)]
#[allow(dead_code)]
struct Order {
    id: u64,
    #[serde(default)]
    note: String,
    price: Option<f64>,
    #[serde(alias = "amount", alias = "n")]
    count: u32,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(skip)]
    cached: u32,
    #[serde(deserialize_with = "as_text")]
    text: u32,
}

fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

#[derive(Serialize, Deserialize, Default)]
enum Kind {
    #[default]
    Plain,
    #[serde(alias = "Old")]
    New(u8),
    Pair(i8, i16),
    Named {
        a: u8,
        #[serde(default)]
        b: u8,
    },
}

#[test]
fn names_aliases_defaults_and_functions() {
    let shape = Shape::of::<Order>();
    let found: Vec<_> = fields(&shape)
        .iter()
        .map(|field| (field.name.as_str(), field.presence))
        .collect();
    use Presence::*;
    assert_eq!(
        found,
        [
            ("id", Required),
            ("note", Optional),
            ("price", Optional),
            ("count", Required),
            ("type", Required),
            ("text", Required)
        ]
    );
    assert_eq!(fields(&shape)[3].aliases, ["amount", "n"]);
    assert_eq!(fields(&shape)[5].shape, scalar(Scalar::String));
    let kind = variants(&fields(&shape)[4].shape);
    let names: Vec<_> = kind.iter().map(|variant| variant.names.join("|")).collect();
    assert_eq!(names, ["Plain", "New|Old", "Pair", "Named"]);
    assert_eq!(kind[0].payload, Payload::Unit);
    assert_eq!(
        kind[2].payload,
        Payload::Tuple(vec![scalar(Scalar::I8), scalar(Scalar::I16)])
    );
    let Payload::Struct(named) = &kind[3].payload else {
        panic!("{kind:?}")
    };
    assert_eq!(
        (named.fields[0].presence, named.fields[1].presence),
        (Required, Optional)
    );
}

#[derive(Serialize, Deserialize)]
struct Aliased {
    #[serde(alias = "n")]
    count: u8,
}

#[derive(Serialize, Deserialize)]
struct Around {
    count: u16,
    inner: Aliased,
}

#[test]
fn what_is_said_of_a_field_is_not_said_of_the_struct_around_it() {
    use Presence::Required;
    let shape = Shape::of::<Around>();
    let inner = Shape::of::<Aliased>();
    assert_eq!(fields(&inner)[0].aliases, ["n"]);
    assert_fields(
        &shape,
        &[
            ("count", scalar(Scalar::U16), Required),
            ("inner", inner, Required),
        ],
    );
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    open: Open,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Open {
    closed: Option<Box<Closed>>,
    more: i32,
}

#[test]
fn whether_unknown_fields_are_refused() {
    let Shape::Struct(closed) = Shape::of::<Closed>() else {
        panic!()
    };
    assert!(closed.closed);
    let Shape::Struct(open) = &closed.fields[0].shape else {
        panic!()
    };
    assert!(!open.closed, "what is within it refuses them");
    assert!(
        open.fields
            .iter()
            .all(|field| field.presence == Presence::Optional)
    );
    assert_eq!(open.fields[0].shape, option(Shape::Recursive(3)));
}

#[derive(Serialize, Deserialize)]
enum Expression {
    Sum(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    All { of: Vec<Expression>, scale: f64 },
    Number(i64),
}

#[derive(Serialize, Deserialize)]
struct Nested(Vec<Nested>);

#[derive(Serialize, Deserialize)]
struct Wrapper<T> {
    inner: T,
}

#[test]
fn types_that_contain_themselves_and_types_that_only_seem_to() {
    let shape = Shape::of::<Expression>();
    let found = variants(&shape);
    assert_eq!(
        found[0].payload,
        Payload::Tuple(vec![Shape::Recursive(1), Shape::Recursive(1)])
    );
    assert_eq!(found[1].payload, Payload::Newtype(Shape::Recursive(1)));
    let Payload::Struct(all) = &found[2].payload else {
        panic!("{found:?}")
    };
    assert_eq!(all.fields[0].shape, list(Shape::Recursive(2)));
    assert_eq!(all.fields[1].presence, Presence::Required);
    assert_eq!(found[3].payload, Payload::Newtype(scalar(Scalar::I64)));
    assert_eq!(Shape::of::<Nested>(), list(Shape::Recursive(1)));
    let wrapped = Shape::of::<Wrapper<Wrapper<Wrapper<u8>>>>();
    let mut inner = &wrapped;
    for _ in 0..3 {
        inner = &fields(inner)[0].shape;
    }
    assert_eq!(*inner, scalar(Scalar::U8));
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Inside {
    A { x: u8 },
    B,
}

#[derive(Serialize, Deserialize)]
struct Flat {
    own: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[derive(Serialize, Deserialize)]
struct Mixed {
    untagged: Untagged,
    #[serde(default)]
    before: u16,
    inside: Inside,
    flat: Flat,
    known: u16,
    #[serde(default)]
    behind: u16,
}

/// A date that is written as text which no sample fits.
#[derive(Serialize)]
struct Picky(String);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.starts_with("#!") {
            true => Ok(Self(text)),
            false => Err(de::Error::custom("no")),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WithPicky {
    first: u8,
    picky: Picky,
    last: Option<Picky>,
    many: Vec<Picky>,
}

struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert!(text.len() > 1_000, "planted in the test");
        Ok(Self)
    }
}

#[test]
fn what_cannot_be_traced_is_opaque_and_the_rest_is_not() {
    let shape = Shape::of::<Mixed>();
    let found = fields(&shape);
    for (at, wanted) in [(0, "untagged"), (2, "tagged inside"), (3, "flattened")] {
        let field = &found[at];
        match &field.shape {
            Shape::Opaque(why) => assert!(why.contains(wanted), "{why}"),
            other => panic!("{}: {other:?}", field.name),
        }
    }
    for at in [1, 4, 5] {
        assert_eq!(found[at].shape, scalar(Scalar::U16));
    }
    let presence: Vec<_> = found.iter().map(|field| field.presence).collect();
    use Presence::{Optional, Required, Unknown};
    // No value of what is tagged inside can be made, and it is asked for before those behind it.
    assert_eq!(
        presence,
        [Required, Optional, Required, Unknown, Unknown, Unknown]
    );
    assert!(matches!(Shape::of::<Panics>(), Shape::Opaque(_)));
}

#[test]
fn a_type_that_no_sample_fits_is_known_by_what_it_reads() {
    let shape = Shape::of::<WithPicky>();
    assert_fields(
        &shape,
        &[
            ("first", scalar(Scalar::U8), Presence::Required),
            ("picky", scalar(Scalar::String), Presence::Required),
            // It could not be shown: the field before cannot be made.
            ("last", option(scalar(Scalar::String)), Presence::Unknown),
            ("many", list(scalar(Scalar::String)), Presence::Unknown),
        ],
    );
}

#[test]
fn a_shape_comes_back_from_its_bytes() {
    for shape in [
        Shape::of::<Mixed>(),
        Shape::of::<Order>(),
        Shape::of::<Expression>(),
        Shape::of::<()>(),
    ] {
        let bytes = rmp_serde::to_vec_named(&shape).unwrap();
        assert_eq!(rmp_serde::from_slice::<Shape>(&bytes).unwrap(), shape);
        let found = compare(&shape, &shape);
        assert!(found.is_readable() && found.allowed.is_empty(), "{found:?}");
    }
}
