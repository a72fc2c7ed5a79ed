//! The address lists: from where a service may be asked.

use std::net::IpAddr;

use crate::model::settings::Effective;
use crate::policy::client;
use crate::proxy::error::Error;

/// Refuses who comes from elsewhere, in the same words for every name.
pub(in crate::proxy) fn check(address: IpAddr, settings: &Effective) -> Result<(), Error> {
    if client::is_welcome(address, settings) {
        Ok(())
    } else {
        Err(Error::Forbidden("not from this address"))
    }
}
