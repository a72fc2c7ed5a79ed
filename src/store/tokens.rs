//! Writing and deleting the hashes of tokens, for the verb that helps with it.

use fred::interfaces::{HashesInterface, KeysInterface};

use super::{Error, Store};
use crate::model::decode::Fields;

impl Store {
    /// Writes these fields of a token's hash.
    pub async fn write_token(&self, key: &str, fields: &Fields) -> Result<(), Error> {
        let pairs: Vec<(String, String)> = fields.clone().into_iter().collect();
        let written: Result<(), _> = self.here()?.hset(key, pairs).await;
        written.map_err(Error::step("write a token"))
    }

    /// Deletes the hashes of tokens; how many there were.
    pub async fn delete_tokens(&self, keys: Vec<String>) -> Result<u64, Error> {
        let client = self.here()?;
        let gone: Result<u64, _> = client.del(keys).await;
        gone.map_err(Error::step("delete a token"))
    }
}
