//! What a trace has found out so far: a tree with a place for everything that was read.

use super::{EnumShape, FieldShape, Payload, Presence, Scalar, Shape, StructShape, VariantShape};

/// How often a place may fail without anything new being learned before it is given up.
const PATIENCE: u8 = 3;

/// A place in a type.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    /// Whether a value was made here once.
    pub(super) fertile: bool,
    /// How often making one has failed without anything new.
    failures: u8,
}

/// What is read at a place.
#[derive(Clone, Debug, Default)]
pub(super) enum Kind {
    #[default]
    Unknown,
    /// With the sample that is tried next.
    Scalar(Scalar, usize),
    Option(Box<Slot>),
    Seq(Box<Slot>),
    Map(Box<[Slot; 2]>),
    Tuple(Vec<Slot>),
    Struct(Fields),
    Enum(Variants),
    Recursive(u32),
    /// Why, and the sample that is tried next.
    Opaque(&'static str, usize),
}

/// The fields of a struct or of a variant.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field>,
    pub(super) closed: Option<bool>,
    /// Comes first, so that another name of the same field is the one that is refused.
    pub(super) first: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The field whose other name it is.
    pub(super) alias_of: Option<usize>,
    pub(super) slot: Slot,
    pub(super) presence: Option<Presence>,
}

/// The variants of an enum.
#[derive(Clone, Debug)]
pub(super) struct Variants {
    pub(super) name: &'static str,
    pub(super) variants: Vec<Variant>,
}

#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// Equal for names of one variant.
    pub(super) identity: Option<u64>,
    /// `None`: not asked for yet.
    pub(super) payload: Option<Held>,
    pub(super) fertile: bool,
    pub(super) attempts: u32,
    failures: u8,
}

/// What a variant holds.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Unit,
    Newtype(Slot),
    Tuple(Vec<Slot>),
    Struct(Fields),
}

fn count_failure(failures: &mut u8, learned: bool) -> bool {
    if *failures == PATIENCE {
        return false;
    }
    *failures = if learned { 0 } else { *failures + 1 };
    *failures == PATIENCE
}

impl Slot {
    /// Whether nothing more will be learned.
    pub(super) fn is_complete(&self) -> bool {
        let complete = match &self.kind {
            _ if self.failures >= PATIENCE => return true,
            Kind::Unknown => false,
            Kind::Scalar(..) | Kind::Opaque(..) | Kind::Recursive(_) => true,
            Kind::Option(inner) | Kind::Seq(inner) => inner.is_complete(),
            Kind::Map(parts) => parts.iter().all(Self::is_complete),
            Kind::Tuple(parts) => parts.iter().all(Self::is_complete),
            Kind::Struct(fields) => fields.is_complete(),
            Kind::Enum(variants) => variants.variants.iter().all(Variant::is_complete),
        };
        complete && self.fertile
    }

    /// A value was made here.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        !std::mem::replace(&mut self.fertile, true)
    }

    /// None could be made. True when, with nothing learned for so long, that is given up for now.
    pub(super) fn failed(&mut self, learned: bool) -> bool {
        count_failure(&mut self.failures, learned)
    }

    pub(super) fn shape(&self) -> Shape {
        match &self.kind {
            Kind::Unknown => Shape::Opaque("it was not reached".to_owned()),
            Kind::Scalar(scalar, _) => Shape::Scalar(*scalar),
            Kind::Option(inner) => Shape::Option(Box::new(inner.shape())),
            Kind::Seq(item) => Shape::Seq(Box::new(item.shape())),
            Kind::Map(parts) => Shape::Map(Box::new(parts[0].shape()), Box::new(parts[1].shape())),
            Kind::Tuple(parts) => Shape::Tuple(parts.iter().map(Self::shape).collect()),
            Kind::Struct(fields) => Shape::Struct(fields.shape()),
            Kind::Enum(variants) => Shape::Enum(variants.shape()),
            Kind::Recursive(levels) => Shape::Recursive(*levels),
            Kind::Opaque(why, _) => Shape::Opaque((*why).to_owned()),
        }
    }
}

impl Fields {
    pub(super) fn new(name: &'static str, names: &'static [&'static str]) -> Self {
        let field = |name: &&'static str| Field {
            name,
            alias_of: None,
            slot: Slot::default(),
            presence: None,
        };
        Self {
            name,
            fields: names.iter().map(field).collect(),
            closed: None,
            first: None,
        }
    }

    fn is_complete(&self) -> bool {
        self.closed.is_some() && self.fields.iter().all(Field::is_complete)
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    fn shape(&self) -> StructShape {
        let aliases = |of: usize| {
            let aliases = self.fields.iter().filter(move |field| field.alias_of == Some(of));
            aliases.map(|field| field.name.to_owned()).collect()
        };
        let own = self.fields.iter().enumerate();
        let fields = own
            .filter(|(_, field)| field.alias_of.is_none())
            .map(|(at, field)| FieldShape {
                name: field.name.to_owned(),
                aliases: aliases(at),
                shape: field.slot.shape(),
                presence: field.presence.unwrap_or(Presence::Unknown),
            });
        StructShape {
            name: self.name.to_owned(),
            fields: fields.collect(),
            closed: self.closed == Some(true),
        }
    }
}

impl Field {
    pub(super) fn is_complete(&self) -> bool {
        self.alias_of.is_some() || (self.presence.is_some() && self.slot.is_complete())
    }
}

impl Variants {
    pub(super) fn new(name: &'static str, names: &'static [&'static str]) -> Self {
        let variant = |name: &&'static str| Variant {
            name,
            identity: None,
            payload: None,
            fertile: false,
            attempts: 0,
            failures: 0,
        };
        let variants = names.iter().map(variant).collect();
        Self { name, variants }
    }

    fn shape(&self) -> EnumShape {
        let mut variants: Vec<VariantShape> = Vec::new();
        let mut identities: Vec<Option<u64>> = Vec::new();
        for variant in &self.variants {
            let known = |identity: &Option<u64>| identity.is_some() && *identity == variant.identity;
            match identities.iter().position(known) {
                Some(at) => variants[at].names.push(variant.name.to_owned()),
                None => {
                    identities.push(variant.identity);
                    variants.push(VariantShape {
                        names: vec![variant.name.to_owned()],
                        payload: variant.payload(),
                    });
                }
            }
        }
        let name = self.name.to_owned();
        EnumShape { name, variants }
    }
}

impl Variant {
    pub(super) fn is_complete(&self) -> bool {
        if self.failures >= PATIENCE {
            return true;
        }
        let complete = match &self.payload {
            None => false,
            Some(Held::Unit) => true,
            Some(Held::Newtype(slot)) => slot.is_complete(),
            Some(Held::Tuple(parts)) => parts.iter().all(Slot::is_complete),
            Some(Held::Struct(fields)) => fields.is_complete(),
        };
        complete && self.fertile
    }

    /// See [`Slot::failed`].
    pub(super) fn failed(&mut self, learned: bool) -> bool {
        count_failure(&mut self.failures, learned)
    }

    /// See [`Slot::succeeded`].
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        !std::mem::replace(&mut self.fertile, true)
    }

    fn payload(&self) -> Payload {
        match &self.payload {
            None => Payload::Opaque("it was not reached".to_owned()),
            Some(Held::Unit) => Payload::Unit,
            Some(Held::Newtype(slot)) => Payload::Newtype(slot.shape()),
            Some(Held::Tuple(parts)) => Payload::Tuple(parts.iter().map(Slot::shape).collect()),
            Some(Held::Struct(fields)) => Payload::Struct(fields.shape()),
        }
    }
}
