//! Tells people who look at Redis that gateways serve what vanished from it.

use super::{Error, write};
use crate::model::config::VANISHED;
use crate::store;

/// One line on standard error where a gateway says that its configuration vanished; whether one does.
pub(super) fn warn(options: &store::Options) -> Result<bool, Error> {
    let errors = super::runtime()?.block_on(async {
        let view = store::View::connect(options)?;
        view.wait().await?;
        view.hashes(&[options.keys.errors()]).await
    });
    let errors = errors.map_err(|cause| write::failed(options, cause))?;
    let said = errors.first().and_then(|fields| fields.get(VANISHED));
    if let Some(said) = said {
        let said = crate::model::visible::escaped(said, &[]);
        let key = options.keys.errors();
        eprintln!("smartlink: gateways serve what no longer stands in Redis: {key}: {said}");
    }
    Ok(said.is_some())
}
