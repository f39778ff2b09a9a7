//! What a job's configuration says about its graph.

use hurtig_core::ids::VertexId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the operators of a vertex are described (`pipeline.vertex-description-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DescriptionMode {
    /// One operator a line, indented.
    #[default]
    Tree,
    /// `a -> b -> c`.
    Cascading,
}

/// The settings that decide how a StreamGraph becomes a JobGraph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphSettings {
    /// The job's name (`pipeline.name` or the argument of `execute`).
    pub job_name: String,
    /// Parallelism set on the environment; above the client's.
    pub environment_parallelism: Option<u32>,
    /// Parallelism given by the client (`-p`); above the default.
    pub client_parallelism: Option<u32>,
    /// `parallelism.default`.
    pub default_parallelism: u32,
    /// `pipeline.max-parallelism`; `None`: derived from each vertex's parallelism.
    pub max_parallelism: Option<u32>,
    /// `pipeline.jobvertex-parallelism-overrides`.
    pub parallelism_overrides: BTreeMap<VertexId, u32>,
    /// `pipeline.operator-chaining.enabled`.
    pub chaining: bool,
    /// `pipeline.auto-generate-uids`; when false every operator must have a uid.
    pub auto_generate_uids: bool,
    /// `pipeline.vertex-description-mode`.
    pub description_mode: DescriptionMode,
    /// `pipeline.vertex-name-include-index-prefix`.
    pub index_prefix: bool,
    /// The program's own parameters (`pipeline.global-job-parameters`).
    pub parameters: BTreeMap<String, String>,
    /// The effective configuration, frozen into the JobGraph.
    pub config: BTreeMap<String, String>,
}

impl Default for GraphSettings {
    fn default() -> Self {
        Self {
            job_name: "Hurtig Streaming Job".to_owned(),
            environment_parallelism: None,
            client_parallelism: None,
            default_parallelism: 1,
            max_parallelism: None,
            parallelism_overrides: BTreeMap::new(),
            chaining: true,
            auto_generate_uids: true,
            description_mode: DescriptionMode::default(),
            index_prefix: false,
            parameters: BTreeMap::new(),
            config: BTreeMap::new(),
        }
    }
}

impl GraphSettings {
    /// The parallelism of an operator that asked for none.
    pub fn job_parallelism(&self) -> u32 {
        self.environment_parallelism
            .or(self.client_parallelism)
            .unwrap_or(self.default_parallelism)
    }
}
