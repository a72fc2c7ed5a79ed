//! Whether a request is tried once more.

use crate::model::settings::{Effective, RetryOn};

/// Whether another endpoint is asked after connecting failed: nothing was sent, so the only bound
/// is `retries`. `failed` counts the failed attempts so far.
#[must_use]
pub fn connect_again(settings: &Effective, failed: usize) -> bool {
    settings.retry_on.contains(&RetryOn::Connect) && failed <= settings.retries as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::Settings;

    #[test]
    fn retries_bound_the_attempts() {
        let settings = Settings {
            retries: Some(1),
            ..Settings::default()
        };
        let effective = Effective::merge(&settings, &Settings::default());
        assert!(connect_again(&effective, 1));
        assert!(!connect_again(&effective, 2));
    }
}
