//! The address guard, in the form that the HTTP client of bridge lanes asks for.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

pub use crate::http::AddressError;
pub(crate) use crate::http::address::{AddressGuard, Lookup, is_loopback, system_lookup};

/// A guarded lookup for the HTTP client.
pub(crate) struct GuardedResolver {
    pub(crate) guard: AddressGuard,
    pub(crate) lookup: Lookup,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, found) = (self.guard.clone(), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let kept = guard.filter(name.as_str(), found.await?)?;
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}
