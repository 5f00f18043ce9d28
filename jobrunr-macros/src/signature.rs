//! The signature of a job function: which parameters are arguments, which are given to it, and what is not possible.

use syn::{
    Attribute, FnArg, GenericArgument, Ident, Pat, PatIdent, PatType, PathArguments, PathSegment, ReturnType,
    Signature, Type,
};

use crate::errors::Errors;

/// One parameter of a job function.
pub(crate) struct Parameter {
    pub(crate) ty: Type,
    pub(crate) role: Role,
}

/// Where the value of a parameter comes from.
pub(crate) enum Role {
    /// From the request: it is stored with the job.
    Argument { name: Ident, field_attributes: Vec<Attribute> },
    /// It is the context of the run.
    Context { by_reference: bool },
    /// From the server, which was given a value of this type.
    Injected(Type),
}

/// Reads the parameters, and takes the attributes that are meant for the request off them.
pub(crate) fn read(signature: &mut Signature, errors: &mut Errors) -> Vec<Parameter> {
    refuse_qualifiers(signature, errors);
    let mut parameters = Vec::new();
    for input in &mut signature.inputs {
        match input {
            FnArg::Receiver(receiver) => errors.push(syn::Error::new_spanned(
                receiver,
                "a job function has no `self`: for work that needs a value's fields, implement `JobHandler` for its type",
            )),
            FnArg::Typed(parameter) => parameters.extend(errors.take(read_parameter(parameter))),
        }
    }
    let contexts = parameters.iter().filter(|parameter| matches!(parameter.role, Role::Context { .. }));
    if let Some(second) = contexts.skip(1).last() {
        errors
            .push(syn::Error::new_spanned(&second.ty, "a job function has one context: leave this one out"));
    }
    parameters
}

fn refuse_qualifiers(signature: &Signature, errors: &mut Errors) {
    if let Some(unsafety) = &signature.unsafety {
        errors.push(syn::Error::new_spanned(
            unsafety,
            "a job function is called by the server: it cannot be `unsafe`",
        ));
    }
    if let Some(abi) = &signature.abi {
        errors.push(syn::Error::new_spanned(abi, "a job function is a Rust function: leave `extern` out"));
    }
    if let Some(first) = signature.generics.params.first() {
        errors.push(syn::Error::new_spanned(
            first,
            "a job function has no generic parameters: its arguments are stored, so their types must be known",
        ));
    }
    if let ReturnType::Type(_, output) = &signature.output
        && let Type::ImplTrait(_) = output.as_ref()
    {
        errors.push(syn::Error::new_spanned(output, "name the type that it returns, such as `JobResult<T>`"));
    }
}

fn read_parameter(parameter: &mut PatType) -> syn::Result<Parameter> {
    let ty = parameter.ty.as_ref().clone();
    let role = match &ty {
        Type::Reference(reference) if last_segment(&reference.elem).is_some_and(is_context) => {
            Role::Context { by_reference: true }
        }
        Type::Reference(_) => return Err(syn::Error::new_spanned(&ty, refused_reference(&ty))),
        Type::ImplTrait(_) => {
            let complaint = "an argument is stored with the job: name its type";
            return Err(syn::Error::new_spanned(&ty, complaint));
        }
        owned => match last_segment(owned) {
            Some(segment) if is_context(segment) => Role::Context { by_reference: false },
            Some(segment) if segment.ident == "Inject" => Role::Injected(injected_type(segment)?),
            _ => argument(parameter)?,
        },
    };
    Ok(Parameter { ty, role })
}

fn argument(parameter: &mut PatType) -> syn::Result<Role> {
    let Pat::Ident(PatIdent { by_ref: None, subpat: None, ident, .. }) = parameter.pat.as_ref() else {
        let complaint = "an argument is stored under its name: give it one, and take it apart in the body";
        return Err(syn::Error::new_spanned(&parameter.pat, complaint));
    };
    if let Some(cfg) = parameter.attrs.iter().find(|attribute| attribute.path().is_ident("cfg")) {
        return Err(syn::Error::new_spanned(
            cfg,
            "an argument is always there: put `#[cfg(…)]` on the function",
        ));
    }
    let (field_attributes, own) = std::mem::take(&mut parameter.attrs)
        .into_iter()
        .partition(|attribute| attribute.path().is_ident("serde"));
    parameter.attrs = own;
    Ok(Role::Argument { name: ident.clone(), field_attributes })
}

fn injected_type(segment: &PathSegment) -> syn::Result<Type> {
    let complaint = || syn::Error::new_spanned(segment, "write what is to be injected: `Inject<T>`");
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Err(complaint()) };
    match arguments.args.first() {
        Some(GenericArgument::Type(ty)) if arguments.args.len() == 1 => Ok(ty.clone()),
        _ => Err(complaint()),
    }
}

fn refused_reference(ty: &Type) -> String {
    let Type::Reference(reference) = ty else { return String::new() };
    let instead = match reference.elem.as_ref() {
        Type::Slice(_) => "a `Vec`".to_owned(),
        pointed_at => match last_segment(pointed_at).map(|segment| segment.ident.to_string()) {
            Some(name) if name == "str" => "`String`".to_owned(),
            Some(name) if name == "Path" => "`PathBuf`".to_owned(),
            Some(name) if name == "Inject" => {
                return "take `Inject<T>` by value: it is a handle already".to_owned();
            }
            Some(name) => format!("`{name}` by value"),
            None => "a value".to_owned(),
        },
    };
    format!("an argument is stored with the job, so it cannot be a reference: take {instead}")
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

fn is_context(segment: &PathSegment) -> bool {
    segment.ident == "JobContext"
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn roles(mut signature: Signature) -> (String, Errors) {
        let mut errors = Errors::default();
        let parameters = read(&mut signature, &mut errors);
        let letter = |parameter: &Parameter| match parameter.role {
            Role::Argument { .. } => 'a',
            Role::Context { by_reference: false } => 'c',
            Role::Context { by_reference: true } => 'r',
            Role::Injected(_) => 'i',
        };
        (parameters.iter().map(letter).collect(), errors)
    }

    #[test]
    fn the_types_say_what_a_parameter_is_for() {
        for (signature, expected) in [
            (parse_quote!(fn f(a: String, b: JobContext, c: Inject<u8>)), "aci"),
            (parse_quote!(fn f(a: jobrunr::Inject<dyn Store>, b: &jobrunr::JobContext)), "ir"),
            (parse_quote!(async fn f(mut a: Vec<JobContext>, b: (u8, u8), c: [u8; 4])), "aaa"),
            (parse_quote!(fn f()), ""),
        ] {
            let (found, errors) = roles(signature);
            assert_eq!(found, expected);
            assert!(errors.is_empty());
        }
    }

    #[test]
    fn an_injection_of_nothing_is_refused() {
        let (_, errors) = roles(parse_quote!(fn f(a: Inject)));

        assert!(errors.into_tokens().to_string().contains("write what is to be injected"));
    }

    #[test]
    fn an_attribute_for_the_request_leaves_the_function() {
        let mut signature = parse_quote!(fn f(#[serde(default)] #[allow(unused)] a: u8));

        let parameters = read(&mut signature, &mut Errors::default());

        let Role::Argument { field_attributes, .. } = &parameters[0].role else { panic!("no argument") };
        assert!(field_attributes[0].path().is_ident("serde"));
        let FnArg::Typed(left) = &signature.inputs[0] else { panic!("no parameter") };
        assert!(left.attrs.len() == 1 && left.attrs[0].path().is_ident("allow"));
    }
}
