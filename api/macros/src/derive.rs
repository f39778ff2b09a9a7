//! `#[derive(StableKey)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Generics, Path, Result, Variant, parse_quote};

use crate::fields::FieldCode;
use crate::options::key_module;

/// The position of a variant is one byte.
const MAX_VARIANTS: usize = 256;

/// The bodies of the methods that differ between structs and enums.
struct Bodies {
    encode: TokenStream,
    decode: TokenStream,
    detach: TokenStream,
    shape: TokenStream,
}

/// Both implementations for the type in `input`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let key = key_module(&input.attrs)?;
    let bodies = match &input.data {
        Data::Struct(data) => struct_bodies(&key, input, &data.fields),
        Data::Enum(data) => enum_bodies(&key, input, data)?,
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span,
                "a union cannot be a key: nothing says which of its fields counts; use an enum",
            ));
        }
    };
    let stable = stable_impl(&key, input, &bodies);
    let owned = input
        .generics
        .lifetimes()
        .next()
        .is_none()
        .then(|| owned_impl(&key, input, &bodies));
    Ok(quote!(#stable #owned))
}

fn struct_bodies(key: &Path, input: &DeriveInput, fields: &Fields) -> Bodies {
    let code = FieldCode { key, fields };
    let (pattern, encode) = (code.pattern(), code.encode());
    let (decode, detach) = (code.decode(), code.detach());
    Bodies {
        encode: quote!(let Self #pattern = self; #encode),
        decode: quote!(::core::result::Result::Ok(Self #decode)),
        detach: quote!(let Self #pattern = self; Self #detach),
        shape: code.shape(&format!("struct {}", input.ident.unraw())),
    }
}

fn enum_bodies(key: &Path, input: &DeriveInput, data: &DataEnum) -> Result<Bodies> {
    let Some(last) = data.variants.len().checked_sub(1) else {
        let message = "an enum without variants has no values and cannot be a key";
        return Err(Error::new_spanned(&input.ident, message));
    };
    if last >= MAX_VARIANTS {
        let message = format!(
            "a key's enum has at most {MAX_VARIANTS} variants, this one has {}",
            last + 1
        );
        return Err(Error::new_spanned(&input.ident, message));
    }
    let name = input.ident.unraw().to_string();
    let arms: Vec<Arms> = data
        .variants
        .iter()
        .enumerate()
        .map(|(position, variant)| variant_arms(key, position as u8, variant))
        .collect();
    let encode = arms.iter().map(|arm| &arm.encode);
    let decode = arms.iter().map(|arm| &arm.decode);
    let detach = arms.iter().map(|arm| &arm.detach);
    let shapes = arms.iter().map(|arm| &arm.shape);
    let (open, last) = (format!("enum {name}{{"), last as u8);
    Ok(Bodies {
        encode: quote!(match self { #(#encode)* }),
        decode: quote! {
            match #key::take_tag(input, #name, #last)? {
                #(#decode)*
                _ => ::core::unreachable!("take_tag admits no greater tag"),
            }
        },
        detach: quote!(match self { #(#detach)* }),
        shape: quote!(out.push_str(#open); #(#shapes)* out.push('}');),
    })
}

/// One variant's part of each method.
struct Arms {
    encode: TokenStream,
    decode: TokenStream,
    detach: TokenStream,
    shape: TokenStream,
}

fn variant_arms(key: &Path, position: u8, variant: &Variant) -> Arms {
    let code = FieldCode {
        key,
        fields: &variant.fields,
    };
    let name = &variant.ident;
    let (pattern, encode) = (code.pattern(), code.encode());
    let (decode, detach) = (code.decode(), code.detach());
    let comma = if position == 0 { "" } else { "," };
    Arms {
        encode: quote! {
            Self::#name #pattern => {
                #key::KeyWriter::put(out, &[#position]);
                #encode
            }
        },
        decode: quote!(#position => ::core::result::Result::Ok(Self::#name #decode),),
        detach: quote!(Self::#name #pattern => Self::#name #detach,),
        shape: code.shape(&format!("{comma}{}", name.unraw())),
    }
}

fn stable_impl(key: &Path, input: &DeriveInput, bodies: &Bodies) -> TokenStream {
    let name = &input.ident;
    let generics = bounded(&input.generics, parse_quote!(#key::StableKey));
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let (encode, shape) = (&bodies.encode, &bodies.shape);
    quote! {
        #[automatically_derived]
        #[allow(clippy::all)]
        impl #parameters #key::StableKey for #name #arguments #conditions {
            #[inline]
            #[allow(unused_variables)]
            fn encode_to<HurtigKeyWriter: #key::KeyWriter>(&self, out: &mut HurtigKeyWriter) {
                #encode
            }

            fn shape(out: &mut ::std::string::String) {
                #shape
            }
        }
    }
}

fn owned_impl(key: &Path, input: &DeriveInput, bodies: &Bodies) -> TokenStream {
    let name = &input.ident;
    let generics = bounded(&input.generics, parse_quote!(#key::OwnedKey));
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let (decode, detach) = (&bodies.decode, &bodies.detach);
    quote! {
        #[automatically_derived]
        #[allow(clippy::all)]
        impl #parameters #key::OwnedKey for #name #arguments #conditions {
            #[allow(unused_variables)]
            fn decode(input: &mut &[u8]) -> ::core::result::Result<Self, #key::KeyDecodeError> {
                #decode
            }

            fn detach(self) -> Self {
                #detach
            }
        }
    }
}

/// `generics` with `bound` on every type parameter.
fn bounded(generics: &Generics, bound: syn::TypeParamBound) -> Generics {
    let mut generics = generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(bound.clone());
    }
    generics
}
