//! The options of the macros: so far one, `crate = "path"`.

use proc_macro2::TokenStream;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::{Attribute, LitStr, Path, Result, parse_quote};

/// The module of the key traits: `::hurtig::core::key`, or the path in `#[stable_key(crate = "..")]`.
pub(crate) fn key_module(attributes: &[Attribute]) -> Result<Path> {
    let mut module: Path = parse_quote!(::hurtig::core::key);
    for attribute in attributes.iter().filter(|a| a.path().is_ident("stable_key")) {
        attribute.parse_nested_meta(|meta| read_crate(&meta, &mut module))?;
    }
    Ok(module)
}

/// The crate whose `entry` module starts programs: `::hurtig`, or the path in `(crate = "..")`.
pub(crate) fn entry_crate(arguments: TokenStream) -> Result<Path> {
    let mut name: Path = parse_quote!(::hurtig);
    syn::meta::parser(|meta| read_crate(&meta, &mut name)).parse2(arguments)?;
    Ok(name)
}

fn read_crate(meta: &ParseNestedMeta<'_>, path: &mut Path) -> Result<()> {
    if !meta.path.is_ident("crate") {
        return Err(meta.error("unknown option; the only one is `crate = \"path\"`"));
    }
    *path = meta.value()?.parse::<LitStr>()?.parse()?;
    Ok(())
}
