//! Names and descriptions of vertices (`pipeline.vertex-description-mode` and friends).

use super::settings::{DescriptionMode, GraphSettings};
use super::stream::StreamNode;

/// `a -> b -> c`, with `[vertex-3]` before it when that is configured.
pub(super) fn vertex_name(operators: &[&StreamNode], index: usize, settings: &GraphSettings) -> String {
    let names: Vec<&str> = operators.iter().map(|node| node.name.as_str()).collect();
    with_prefix(names.join(" -> "), index, settings)
}

/// The operators' descriptions in the configured mode.
pub(super) fn vertex_description(
    operators: &[&StreamNode],
    index: usize,
    settings: &GraphSettings,
) -> String {
    let texts = operators
        .iter()
        .map(|node| node.description.as_deref().unwrap_or(&node.name));
    let text = match settings.description_mode {
        DescriptionMode::Cascading => texts.collect::<Vec<_>>().join(" -> "),
        DescriptionMode::Tree => tree(texts),
    };
    with_prefix(text, index, settings)
}

fn tree<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut tree = String::new();
    for (depth, text) in texts.enumerate() {
        if depth > 0 {
            tree.push_str(&"   ".repeat(depth - 1));
            tree.push_str("+- ");
        }
        tree.push_str(text);
        tree.push('\n');
    }
    tree
}

fn with_prefix(text: String, index: usize, settings: &GraphSettings) -> String {
    if settings.index_prefix {
        format!("[vertex-{index}]{text}")
    } else {
        text
    }
}
