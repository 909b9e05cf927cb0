//! Who acts by hand, and why.

use tasker_client::Operator;

/// Kept in the history of what is done.
#[derive(Debug, clap::Args)]
pub(crate) struct By {
    /// Who you are; kept in the history.
    #[arg(long, env = "TASKER_OPERATOR", value_name = "NAME")]
    operator: String,
    /// Why; kept in the history.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl From<By> for Operator {
    fn from(by: By) -> Self {
        Self::new(by.operator, by.reason)
    }
}
