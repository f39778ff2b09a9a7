//! Whose records in flight are whose after a restore.

use super::*;
