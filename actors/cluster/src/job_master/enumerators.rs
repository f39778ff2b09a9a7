//! What enumerators say on their own account, heard by the JobMaster's actor.

use hurtig_core::ids::NodeId;
use hurtig_dataflow::source::EnumeratorContext;
use std::collections::BTreeMap;

/// The contexts of the present enumerators.
#[derive(Default)]
pub(super) struct EnumeratorContexts {
    sources: BTreeMap<NodeId, Source>,
}

struct Source {
    /// Which enumerator.
    generation: u32,
    context: EnumeratorContext,
    /// What the brain knows.
    backlog: bool,
}

/// An enumerator says that what is being read is backlog, or is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BacklogNews {
    pub(super) generation: u32,
    pub(super) node: NodeId,
    pub(super) backlog: bool,
}

impl EnumeratorContexts {
    /// A source has a new enumerator, of which nothing is known.
    pub(super) fn add(&mut self, node: NodeId, generation: u32, context: EnumeratorContext) {
        let source = Source {
            generation,
            context,
            backlog: false,
        };
        self.sources.insert(node, source);
    }

    /// What was said since the last call. Asked before anything that an enumerator has answered is handled, so that
    /// what it said before comes first; a mailbox that is full loses no more than the call to ask.
    pub(super) fn news(&mut self) -> Vec<BacklogNews> {
        let sources = self.sources.iter_mut();
        let turned = sources.filter_map(|(node, source)| {
            let backlog = source.context.is_backlog();
            let turned = std::mem::replace(&mut source.backlog, backlog) != backlog;
            turned.then_some(BacklogNews {
                generation: source.generation,
                node: *node,
                backlog,
            })
        });
        turned.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_news_once_and_of_the_present_enumerator() {
        let mut contexts = EnumeratorContexts::default();
        let (node, context) = (NodeId(3), EnumeratorContext::new(|| {}));
        contexts.add(node, 0, context.clone());
        assert_eq!(contexts.news(), []);
        let news = |generation, backlog| BacklogNews {
            generation,
            node,
            backlog,
        };
        context.set_backlog(true);
        assert_eq!(contexts.news(), [news(0, true)]);
        assert_eq!(contexts.news(), []);
        context.set_backlog(false);
        context.set_backlog(true);
        assert_eq!(contexts.news(), [], "it is as it was");
        contexts.add(node, 1, EnumeratorContext::new(|| {}));
        context.set_backlog(false);
        assert_eq!(contexts.news(), [], "of one that was replaced");
    }
}
