//! Where in which program an operator stands, and the mistakes that are made there.

use hurtig_core::ids::NodeId;
use hurtig_dataflow::graph::StreamGraph;
use std::sync::Arc;

/// What is wrong with a stream that does not belong here.
pub(crate) const STRANGER: &str = "a stream of another program: a stream belongs to the environment that it was \
                                   built with, until that environment executes it; build it again";

/// Tells programs apart: an environment begins a new one with each execution.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProgramId(Arc<()>);

impl PartialEq for ProgramId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// An operator of a program.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) program: ProgramId,
}

/// A mistake made while building a program.
pub(crate) struct Mistake {
    /// The operator that it is in, if it is in one.
    pub(crate) operator: Option<NodeId>,
    pub(crate) what: String,
}

impl Mistake {
    /// What `execute` reports. The operator may have got its name after the mistake.
    pub(crate) fn text(&self, graph: &StreamGraph) -> String {
        match self.operator.and_then(|operator| graph.node(operator)) {
            Some(node) => format!("operator '{}': {}", node.name, self.what),
            None => self.what.clone(),
        }
    }
}

impl From<String> for Mistake {
    fn from(what: String) -> Self {
        let operator = None;
        Self { operator, what }
    }
}
