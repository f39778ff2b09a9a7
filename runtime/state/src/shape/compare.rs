//! Whether values that were written with one shape can be read with another.

use super::{EnumShape, FieldShape, Payload, Presence, Scalar, Shape, StructShape, VariantShape};
use std::fmt;

/// What has changed from one shape to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What cannot be read any more.
    pub refused: Vec<Difference>,
    /// What can only be seen when a value is read.
    pub unproven: Vec<Difference>,
    /// What can be read although it is another.
    pub allowed: Vec<Difference>,
}

/// A place at which shapes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, as in `.address.lines[]`; empty for the value itself.
    pub path: String,
    /// What is there now, and was there.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "the value {}", self.what),
            path => write!(f, "{path} {}", self.what),
        }
    }
}

impl Comparison {
    /// Whether all values can be read, as far as shapes tell.
    pub fn is_readable(&self) -> bool {
        self.refused.is_empty()
    }

    /// Adds what another comparison has found and this one has not.
    pub fn merge(&mut self, other: Self) {
        let add = |into: &mut Vec<Difference>, differences: Vec<Difference>| {
            for difference in differences {
                if !into.contains(&difference) {
                    into.push(difference);
                }
            }
        };
        add(&mut self.refused, other.refused);
        add(&mut self.unproven, other.unproven);
        add(&mut self.allowed, other.allowed);
    }
}

/// Compares the shape that values were written with to the one that they are to be read with.
pub fn compare(old: &Shape, new: &Shape) -> Comparison {
    let mut comparer = Comparer::default();
    comparer.shapes(Levels::of(old), Levels::of(new));
    comparer.found
}

/// A shape with those that it stands in.
#[derive(Clone)]
struct Levels<'a> {
    stack: Vec<&'a Shape>,
}

impl<'a> Levels<'a> {
    fn of(shape: &'a Shape) -> Self {
        Self { stack: vec![shape] }
    }

    /// The shape; one that stands within itself is followed to where it stands.
    fn resolve(&mut self) -> Option<&'a Shape> {
        while let Some(Shape::Recursive(levels)) = self.stack.last() {
            let left = self.stack.len().checked_sub(*levels as usize)?;
            if left == 0 || *levels == 0 {
                return None;
            }
            self.stack.truncate(left);
        }
        self.stack.last().copied()
    }

    fn within(&self, shape: &'a Shape) -> Self {
        let mut stack = self.stack.clone();
        stack.push(shape);
        Self { stack }
    }
}

#[derive(Default)]
struct Comparer {
    found: Comparison,
    path: String,
    /// Pairs that are being compared, for types that contain themselves.
    open: Vec<(*const Shape, *const Shape)>,
}

impl Comparer {
    fn refuse(&mut self, what: String) {
        let path = self.path.clone();
        self.found.refused.push(Difference { path, what });
    }

    fn doubt(&mut self, what: String) {
        let path = self.path.clone();
        self.found.unproven.push(Difference { path, what });
    }

    fn allow(&mut self, what: String) {
        let path = self.path.clone();
        self.found.allowed.push(Difference { path, what });
    }

    /// Does something at a place further within.
    fn at(&mut self, step: &str, compare: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        compare(self);
        self.path.truncate(length);
    }

    fn shapes<'a>(&mut self, mut old: Levels<'a>, mut new: Levels<'a>) {
        let (Some(was), Some(is)) = (old.resolve(), new.resolve()) else {
            return self.doubt("contains itself in a way that cannot be followed".to_owned());
        };
        let pair = (std::ptr::from_ref(was), std::ptr::from_ref(is));
        if self.open.contains(&pair) {
            return;
        }
        self.open.push(pair);
        self.resolved((was, old), (is, new));
        self.open.pop();
    }

    fn resolved<'a>(&mut self, (was, old): (&'a Shape, Levels<'a>), (is, new): (&'a Shape, Levels<'a>)) {
        match (was, is) {
            (Shape::Opaque(why), _) | (_, Shape::Opaque(why)) => {
                self.doubt(format!("cannot be compared: {why}"));
            }
            (Shape::Option(was), Shape::Option(is)) => self.shapes(old.within(was), new.within(is)),
            (_, Shape::Option(inner)) => {
                let refused = self.found.refused.len();
                self.shapes(old, new.within(inner));
                let what = format!("is {is} and was {was}");
                match self.found.refused.get_mut(refused) {
                    None => self.allow(what),
                    Some(first) if first.path == self.path => first.what = what,
                    Some(_) => {}
                }
            }
            (Shape::Scalar(was), Shape::Scalar(is)) => self.scalars(*was, *is),
            (Shape::Seq(was), Shape::Seq(is)) => {
                self.at("[]", |at| at.shapes(old.within(was), new.within(is)));
            }
            (Shape::Map(old_key, was), Shape::Map(new_key, is)) => {
                self.at("{key}", |at| at.shapes(old.within(old_key), new.within(new_key)));
                self.at("{}", |at| at.shapes(old.within(was), new.within(is)));
            }
            (Shape::Tuple(was), Shape::Tuple(is)) => self.tuples((was, &old), (is, &new)),
            (Shape::Struct(was), Shape::Struct(is)) => self.structs((was, &old), (is, &new)),
            (Shape::Enum(was), Shape::Enum(is)) => self.enums((was, &old), (is, &new)),
            _ => self.refuse(format!("is {is} and was {was}")),
        }
    }

    fn scalars(&mut self, was: Scalar, is: Scalar) {
        match (was == is, widens(was, is)) {
            (true, _) => {}
            (false, true) => self.allow(format!("is {is} and was {was}")),
            (false, false) if widens(is, was) => {
                self.refuse(format!(
                    "is {is} and was {was}, which holds more: make it {was} again"
                ));
            }
            (false, false) => self.refuse(format!("is {is} and was {was}")),
        }
    }

    fn tuples<'a>(&mut self, (was, old): (&'a [Shape], &Levels<'a>), (is, new): (&'a [Shape], &Levels<'a>)) {
        if was.len() != is.len() {
            return self.refuse(format!("has {} parts and had {}", is.len(), was.len()));
        }
        for (at, (was, is)) in was.iter().zip(is).enumerate() {
            self.at(&format!(".{at}"), |place| {
                place.shapes(old.within(was), new.within(is));
            });
        }
    }

    fn structs<'a>(
        &mut self,
        (was, old): (&'a StructShape, &Levels<'a>),
        (is, new): (&'a StructShape, &Levels<'a>),
    ) {
        for field in &was.fields {
            let reader = is.fields.iter().find(|other| other.is_named(&field.name));
            self.at(&format!(".{}", field.name), |at| match reader {
                Some(reader) => at.field((field, old), (reader, new)),
                None if is.closed => at.refuse(format!(
                    "is not there any more, and {} refuses fields that it does not know: keep the field, or take \
                     deny_unknown_fields away",
                    is.name
                )),
                None => at.allow("is not there any more".to_owned()),
            });
        }
        for field in &is.fields {
            if !was.fields.iter().any(|other| field.is_named(&other.name)) {
                self.at(&format!(".{}", field.name), |at| at.added(field));
            }
        }
    }

    fn field<'a>(
        &mut self,
        (was, old): (&'a FieldShape, &Levels<'a>),
        (is, new): (&'a FieldShape, &Levels<'a>),
    ) {
        if was.name != is.name {
            self.allow(format!("is called {} and read under its old name too", is.name));
        }
        if was.presence == Presence::Optional && is.presence == Presence::Required {
            self.doubt(
                "has to be there and did not have to: values that were written without it fail".to_owned(),
            );
        }
        self.shapes(old.within(&was.shape), new.within(&is.shape));
    }

    fn added(&mut self, field: &FieldShape) {
        match field.presence {
            Presence::Optional => self.allow(format!("is new, {} that may be missing", field.shape)),
            Presence::Required => self.refuse(
                "is new, and no stored value has it: give it a default (#[serde(default)]), make it an Option, or, if \
                 it was renamed, have it read under its old name too (#[serde(alias = \"…\")])"
                    .to_owned(),
            ),
            Presence::Unknown => self.doubt("is new, and whether it may be missing cannot be told".to_owned()),
        }
    }

    fn enums<'a>(
        &mut self,
        (was, old): (&'a EnumShape, &Levels<'a>),
        (is, new): (&'a EnumShape, &Levels<'a>),
    ) {
        for variant in &was.variants {
            for name in &variant.names {
                let reader = is.variants.iter().find(|other| other.is_named(name));
                self.at(&format!("::{name}"), |at| match reader {
                    Some(reader) => at.payloads((&variant.payload, old), (&reader.payload, new)),
                    None => at.refuse(
                        "is not a variant any more: keep it, or, if it was renamed, have the new one read under its \
                         old name too (#[serde(alias = \"…\")])"
                            .to_owned(),
                    ),
                });
            }
        }
        for variant in &is.variants {
            let known = |name: &String| was.variants.iter().any(|other| other.is_named(name));
            if !variant.names.iter().any(known) {
                self.at(&format!("::{}", variant.shown()), |at| {
                    at.allow("is a new variant".to_owned());
                });
            }
        }
    }

    fn payloads<'a>(
        &mut self,
        (was, old): (&'a Payload, &Levels<'a>),
        (is, new): (&'a Payload, &Levels<'a>),
    ) {
        match (was, is) {
            (Payload::Opaque(why), _) | (_, Payload::Opaque(why)) => {
                self.doubt(format!("cannot be compared: {why}"));
            }
            (Payload::Unit, Payload::Unit) => {}
            (Payload::Newtype(was), Payload::Newtype(is)) => self.shapes(old.within(was), new.within(is)),
            (Payload::Tuple(was), Payload::Tuple(is)) => self.tuples((was, old), (is, new)),
            (Payload::Struct(was), Payload::Struct(is)) => self.structs((was, old), (is, new)),
            _ => self.refuse(format!("holds {} and held {}", is.kind(), was.kind())),
        }
    }
}

impl VariantShape {
    fn shown(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

impl Payload {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Unit => "nothing",
            Self::Newtype(_) => "one value",
            Self::Tuple(_) => "a tuple",
            Self::Struct(_) => "fields",
            Self::Opaque(_) => "what cannot be traced",
        }
    }
}

/// Whether every value of one number is one of another, and its bytes are read as such.
fn widens(from: Scalar, to: Scalar) -> bool {
    match (from.bits(), to.bits()) {
        (Some((Number::Float, from)), Some((Number::Float, to)))
        | (Some((Number::Signed, from)), Some((Number::Signed, to)))
        | (Some((Number::Unsigned, from)), Some((Number::Unsigned | Number::Signed, to))) => from < to,
        _ => false,
    }
}

#[derive(Clone, Copy)]
enum Number {
    Unsigned,
    Signed,
    Float,
}

impl Scalar {
    const fn bits(self) -> Option<(Number, u32)> {
        Some(match self {
            Self::U8 => (Number::Unsigned, 8),
            Self::U16 => (Number::Unsigned, 16),
            Self::U32 => (Number::Unsigned, 32),
            Self::U64 => (Number::Unsigned, 64),
            Self::U128 => (Number::Unsigned, 128),
            Self::I8 => (Number::Signed, 8),
            Self::I16 => (Number::Signed, 16),
            Self::I32 => (Number::Signed, 32),
            Self::I64 => (Number::Signed, 64),
            Self::I128 => (Number::Signed, 128),
            Self::F32 => (Number::Float, 32),
            Self::F64 => (Number::Float, 64),
            _ => return None,
        })
    }
}
