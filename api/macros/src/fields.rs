//! The code for one list of fields: of a struct, or of one variant of an enum.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Field, Fields, Index, Path};

/// Writes code for `fields`, naming the key traits through `key`.
pub(crate) struct FieldCode<'a> {
    pub(crate) key: &'a Path,
    pub(crate) fields: &'a Fields,
}

impl FieldCode<'_> {
    /// A pattern that binds every field to [`Self::binding`].
    pub(crate) fn pattern(&self) -> TokenStream {
        let members = self.members();
        let bindings = self.bindings();
        quote!({ #(#members: #bindings),* })
    }

    /// Statements that encode the bound fields (references) into `out`.
    pub(crate) fn encode(&self) -> TokenStream {
        let key = self.key;
        let statements = self.fields.iter().zip(self.bindings()).map(|(field, binding)| {
            let ty = &field.ty;
            quote_spanned!(ty.span()=> <#ty as #key::StableKey>::encode_to(#binding, out);)
        });
        quote!(#(#statements)*)
    }

    /// The fields of a literal, each read from `input` in turn.
    pub(crate) fn decode(&self) -> TokenStream {
        let (key, members) = (self.key, self.members());
        let values = self.fields.iter().map(|field| {
            let ty = &field.ty;
            quote_spanned!(ty.span()=> <#ty as #key::OwnedKey>::decode(input)?)
        });
        quote!({ #(#members: #values),* })
    }

    /// The fields of a literal, each detached from the bound value.
    pub(crate) fn detach(&self) -> TokenStream {
        let (key, members) = (self.key, self.members());
        let values = self.fields.iter().zip(self.bindings()).map(|(field, binding)| {
            let ty = &field.ty;
            quote_spanned!(ty.span()=> <#ty as #key::OwnedKey>::detach(#binding))
        });
        quote!({ #(#members: #values),* })
    }

    /// Statements that append `name` and the fields' shapes to `out`.
    pub(crate) fn shape(&self, name: &str) -> TokenStream {
        let (open, close) = match self.fields {
            Fields::Named(_) => ("{", "}"),
            Fields::Unnamed(_) => ("(", ")"),
            Fields::Unit => ("", ""),
        };
        let head = format!("{name}{open}");
        let parts = self
            .fields
            .iter()
            .enumerate()
            .map(|(at, field)| self.field_shape(at, field));
        quote! {
            out.push_str(#head);
            #(#parts)*
            out.push_str(#close);
        }
    }

    fn field_shape(&self, at: usize, field: &Field) -> TokenStream {
        let (key, ty) = (self.key, &field.ty);
        let comma = if at == 0 { "" } else { "," };
        let label = match &field.ident {
            Some(name) => format!("{comma}{}:", name.unraw()),
            None => comma.to_owned(),
        };
        quote_spanned! {ty.span()=>
            out.push_str(#label);
            <#ty as #key::StableKey>::shape(out);
        }
    }

    fn members(&self) -> Vec<TokenStream> {
        let member = |(at, field): (usize, &Field)| match &field.ident {
            Some(name) => quote!(#name),
            None => {
                let index = Index::from(at);
                quote!(#index)
            }
        };
        self.fields.iter().enumerate().map(member).collect()
    }

    fn bindings(&self) -> Vec<Ident> {
        (0..self.fields.len())
            .map(|at| format_ident!("field_{at}"))
            .collect()
    }
}
