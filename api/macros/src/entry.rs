//! `#[hurtig::main]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, Result};

use crate::options::entry_crate;

/// The synchronous `main` around `program`.
pub(crate) fn expand(arguments: TokenStream, program: ItemFn) -> Result<TokenStream> {
    let name = entry_crate(arguments)?;
    check(&program)?;
    let run = match program.sig.inputs.len() {
        0 => quote!(run0),
        _ => quote!(run),
    };
    let visibility = &program.vis;
    let mut job = program.clone();
    job.sig.ident = format_ident!("__hurtig_main");
    job.vis = syn::Visibility::Inherited;
    Ok(quote! {
        #visibility fn main() -> ::std::process::ExitCode {
            #job
            #name::entry::#run(__hurtig_main)
        }
    })
}

fn check(program: &ItemFn) -> Result<()> {
    let signature = &program.sig;
    if signature.ident != "main" {
        return Err(Error::new_spanned(
            &signature.ident,
            "`#[hurtig::main]` belongs on `async fn main`",
        ));
    }
    if signature.asyncness.is_none() {
        let message =
            "a program's `main` is asynchronous: write `async fn main(env: StreamEnv) -> Result<()>`";
        return Err(Error::new(signature.fn_token.span, message));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "`main` has no generic parameters",
        ));
    }
    if let Some(extra) = signature.inputs.iter().nth(1) {
        let message = "`main` takes the environment and nothing else: `env: StreamEnv`, or no parameter; \
            read arguments of the command line inside it";
        return Err(Error::new(extra.span(), message));
    }
    Ok(())
}
