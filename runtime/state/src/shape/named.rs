//! Reading structs and enums in a trace: which fields and variants a run offers, and what their answers mean.

use super::Presence;
use super::probe::Elements;
use super::slot::{Field, Fields, Held, Slot, Variant, Variants};
use super::trace::{Failure, Trace};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, VariantAccess, Visitor};
use std::any::type_name;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

/// A name that no field has.
const NO_FIELD: &str = "\u{1}hurtig";
/// What `derive` calls the names of fields and variants.
const DERIVED_NAMES: &str = "__Field";

/// What a run is to find out of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Whether a field that it does not know is refused.
    Closed,
    /// What its fields hold.
    All,
    /// Whether one of its fields may be missing.
    Without(usize),
}

/// Reads a struct once.
pub(super) fn read_struct<'de, V: Visitor<'de>>(
    fields: &mut Fields,
    (trace, depth): (&Trace, u32),
    visitor: V,
) -> Result<V::Value, Failure> {
    let plan = match trace.is_replaying() {
        true => Plan::All,
        false => fields.plan(),
    };
    let order = fields.order(plan, trace.is_replaying());
    let mut last = Last::default();
    let offer = Offer {
        fields,
        trace,
        depth,
        unknown: plan == Plan::Closed,
        order: order.iter(),
        last: &mut last,
    };
    let result = visitor.visit_map(offer);
    // What a field's own fields say is not about this struct.
    let failure = result.as_ref().err();
    let failure = failure.map(|failure| if last.inside { Failure::Other } else { *failure });
    if !trace.is_replaying() && fields.learn(plan, last.field, failure) {
        trace.learned();
    }
    result
}

impl Fields {
    fn plan(&self) -> Plan {
        if self.closed.is_none() {
            return Plan::Closed;
        }
        let own = |field: &Field| field.alias_of.is_none();
        let unseen = |field: &Field| own(field) && !field.slot.is_complete();
        if self.fields.iter().any(unseen) {
            return Plan::All;
        }
        let unsure = |field: &Field| own(field) && field.presence.is_none();
        self.fields
            .iter()
            .position(unsure)
            .map_or(Plan::All, Plan::Without)
    }

    /// The fields that are offered: those that may fail behind the others, when they are offered at all.
    fn order(&self, plan: Plan, only_fertile: bool) -> Vec<usize> {
        let offered = |at: &usize| {
            let field = &self.fields[*at];
            let wanted = match plan {
                Plan::Without(other) => *at != other && field.slot.fertile,
                Plan::Closed | Plan::All => {
                    field.slot.fertile || (!only_fertile && !field.slot.is_complete())
                }
            };
            field.alias_of.is_none() && wanted
        };
        let mut order: Vec<usize> = (0..self.fields.len()).filter(offered).collect();
        order.sort_by_key(|at| (self.first != Some(*at), !self.fields[*at].slot.fertile));
        order
    }

    /// Takes in how reading has ended. True when something was learned.
    fn learn(&mut self, plan: Plan, last: Option<usize>, failure: Option<Failure>) -> bool {
        let closing = plan == Plan::Closed;
        if closing {
            // Whatever else has failed, it came behind.
            self.closed = Some(failure == Some(Failure::UnknownField) && last.is_none());
        }
        if let Some(Failure::Duplicate(name)) = failure {
            return self.learn_alias(last, name) || closing;
        }
        let Plan::Without(without) = plan else {
            return closing;
        };
        let missing = match failure {
            Some(Failure::Missing(name)) => self.position(name),
            _ => None,
        };
        let presence = match missing {
            _ if failure.is_none() => Presence::Optional,
            Some(missing) if missing == without => Presence::Required,
            // Fields are looked for in their order: it was found not to be there, and passed over.
            Some(missing) if missing > without => Presence::Optional,
            _ => Presence::Unknown,
        };
        self.fields[without].presence = Some(presence);
        if let Some(missing) = missing {
            // That of another field says that this one cannot be offered.
            self.fields[missing].presence.get_or_insert(Presence::Required);
        }
        true
    }

    /// The field that was read last is one that was read before, whose name is `name`.
    fn learn_alias(&mut self, last: Option<usize>, name: &str) -> bool {
        let (Some(last), Some(own)) = (last, self.position(name)) else {
            return false;
        };
        match last == own {
            true => self.first.replace(own) != Some(own),
            false => self.fields[last].alias_of.replace(own).is_none(),
        }
    }
}

/// The fields that a run offers.
struct Offer<'a> {
    fields: &'a mut Fields,
    trace: &'a Trace,
    depth: u32,
    /// Whether a field comes first that there is not.
    unknown: bool,
    order: std::slice::Iter<'a, usize>,
    last: &'a mut Last,
}

/// How far reading a struct has come.
#[derive(Default)]
struct Last {
    /// The field that was offered last.
    field: Option<usize>,
    /// Whether its value is being read.
    inside: bool,
}

impl<'de> MapAccess<'de> for Offer<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let name = match (std::mem::take(&mut self.unknown), self.order.clone().next()) {
            (true, _) => NO_FIELD,
            (false, Some(at)) => {
                self.order.next();
                self.last.field = Some(*at);
                self.fields.fields[*at].name
            }
            (false, None) => return Ok(None),
        };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let mut nowhere = Slot::default();
        let slot = match self.last.field {
            Some(at) => &mut self.fields.fields[at].slot,
            None => &mut nowhere,
        };
        self.last.inside = true;
        let value = self.trace.feed(seed, slot, self.depth)?;
        self.last.inside = false;
        Ok(value)
    }
}

/// Reads an enum once: the variant that was tried least, or when all are known the first that gives a value.
pub(super) fn read_enum<'de, V: Visitor<'de>>(
    variants: &mut Variants,
    (trace, depth): (&Trace, u32),
    visitor: V,
) -> Result<V::Value, Failure> {
    let unseen = variants
        .variants
        .iter_mut()
        .filter(|variant| !variant.is_complete());
    let unseen = unseen.min_by_key(|variant| variant.attempts);
    let variant = match unseen {
        Some(variant) if !trace.is_replaying() => variant,
        _ => {
            let fertile = variants.variants.iter_mut().find(|variant| variant.fertile);
            fertile.ok_or(Failure::Other)?
        }
    };
    variant.attempts += 1;
    let before = trace.news();
    let result = visitor.visit_enum(Choice {
        variant: &mut *variant,
        trace,
        depth,
    });
    let news = match result.is_ok() {
        true => variant.succeeded(),
        false => variant.failed(trace.news() != before),
    };
    if news && !trace.is_replaying() {
        trace.learned();
    }
    result
}

/// The variant that a run takes.
struct Choice<'a> {
    variant: &'a mut Variant,
    trace: &'a Trace,
    depth: u32,
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        let name = BorrowedStrDeserializer::<Failure>::new(self.variant.name);
        let value = seed.deserialize(name)?;
        if type_name::<S::Value>().contains(DERIVED_NAMES) {
            let mut hasher = DefaultHasher::new();
            discriminant(&value).hash(&mut hasher);
            self.variant.identity = Some(hasher.finish());
        }
        Ok((value, self))
    }
}

impl Choice<'_> {
    /// What the variant holds; made when nobody has asked yet.
    fn held(&mut self, make: impl FnOnce() -> Held) -> &mut Held {
        if self.variant.payload.is_none() {
            self.trace.learned();
        }
        self.variant.payload.get_or_insert_with(make)
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Failure;

    fn unit_variant(mut self) -> Result<(), Failure> {
        self.held(|| Held::Unit);
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Failure> {
        let (trace, depth) = (self.trace, self.depth);
        match self.held(|| Held::Newtype(Slot::default())) {
            Held::Newtype(slot) => trace.feed(seed, slot, depth),
            _ => Err(Failure::Other),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        let (trace, depth) = (self.trace, self.depth);
        match self.held(|| Held::Tuple(vec![Slot::default(); len])) {
            Held::Tuple(parts) => visitor.visit_seq(Elements::new(parts, trace, depth)),
            _ => Err(Failure::Other),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let (trace, depth, name) = (self.trace, self.depth, self.variant.name);
        match self.held(|| Held::Struct(Fields::new(name, fields))) {
            Held::Struct(fields) => read_struct(fields, (trace, depth), visitor),
            _ => Err(Failure::Other),
        }
    }
}
