//! What may travel in a stream.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record type: plain data that serde can encode. Implemented for everything that qualifies.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a stream",
    note = "records are `Clone + Send + Serialize + DeserializeOwned + 'static`: derive Clone, Serialize and Deserialize"
)]
pub trait Data: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Data for T {}
