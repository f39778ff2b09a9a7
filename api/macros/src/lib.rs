//! Procedural macros of the `hurtig` crate: `#[derive(StableKey)]` and `#[hurtig::main]`.
//!
//! They promise readable errors at the place of the mistake, and code that names everything by its
//! absolute path. They refuse to know what a key or a program does: that is written in
//! `hurtig::core::key` and `hurtig::entry`.

mod derive;
mod entry;
mod fields;
mod options;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

/// Makes a struct or an enum a key of keyed streams.
///
/// Implements `StableKey` and, for types without lifetime parameters, `OwnedKey` (which also wants
/// `Clone`). The fields are encoded in the order in which they are written, an enum by the position
/// of its variant first. So the order, names and types of fields and variants are part of the key's
/// shape: a change to any of them makes another key, and state is not restored into another key.
///
/// ```
/// # use hurtig_core::key::{self as hurtig_key, StableKey as _};
/// # use hurtig_macros::StableKey;
/// #[derive(Clone, PartialEq, Eq, StableKey)]
/// # #[stable_key(crate = "hurtig_core::key")]
/// struct User {
///     id: u64,
///     name: String,
/// }
///
/// #[derive(Clone, PartialEq, Eq, StableKey)]
/// # #[stable_key(crate = "hurtig_core::key")]
/// enum Visitor {
///     Known(User),
///     Anonymous,
/// }
///
/// assert_eq!(hurtig_key::shape_of::<Visitor>(), "enum Visitor{Known(struct User{id:u64,name:str}),Anonymous}");
/// ```
///
/// A field that is not a key is an error at that field:
///
/// ```compile_fail,E0277
/// # use hurtig_macros::StableKey;
/// #[derive(Clone, PartialEq, StableKey)]
/// # #[stable_key(crate = "hurtig_core::key")]
/// struct Place {
///     latitude: f64,
/// }
/// ```
///
/// So is an enum without variants, a union, or an option that the macro does not know:
///
/// ```compile_fail
/// # use hurtig_macros::StableKey;
/// #[derive(Clone, PartialEq, Eq, StableKey)]
/// # #[stable_key(crate = "hurtig_core::key")]
/// enum Never {}
/// ```
///
/// ```compile_fail
/// # use hurtig_macros::StableKey;
/// #[derive(Clone, PartialEq, Eq, StableKey)]
/// #[stable_key(crat = "hurtig_core::key")]
/// struct Id(u64);
/// ```
///
/// `#[stable_key(crate = "path")]` names the module of the key traits when it is not
/// `::hurtig::core::key`.
#[proc_macro_derive(StableKey, attributes(stable_key))]
pub fn derive_stable_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes an `async fn main` the program of a job.
///
/// ```ignore
/// use hurtig::prelude::*;
///
/// #[hurtig::main]
/// async fn main(env: StreamEnv) -> Result<()> {
///     env.execute("nothing yet").await?;
///     Ok(())
/// }
/// ```
///
/// The function becomes the job; the `main` that the macro writes starts the runtime it needs,
/// hands over the environment and turns the result into the process's exit code. A program that
/// makes its environment itself takes no parameter.
///
/// It must be asynchronous, be called `main` and take at most one parameter:
///
/// ```compile_fail
/// #[hurtig_macros::main]
/// fn main() {}
/// ```
///
/// ```compile_fail
/// #[hurtig_macros::main]
/// async fn main(a: u8, b: u8) {}
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let program = parse_macro_input!(item as ItemFn);
    entry::expand(arguments.into(), program)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
